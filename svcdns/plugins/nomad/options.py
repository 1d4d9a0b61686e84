"""The options of `nomad`. Like Nomad's own tools, the plugin also reads environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Position, Token
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.environment import Block

ZONE: Final = "service.nomad"
ADDRESS: Final = "http://127.0.0.1:4646"
TTL: Final = 30
MAX_TTL: Final = 3600
_KNOWN: Final = ("address", "filter", "token", "ttl")
_TRUE: Final = ("1", "t", "T", "TRUE", "true", "True")


@dataclass(frozen=True, slots=True)
class Address:
    """An address of Nomad's HTTP API. `socket` is the path of a Unix socket, or empty."""

    url: str
    socket: str = ""

    @property
    def is_secure(self) -> bool:
        """Returns True if the connection uses TLS."""
        return self.url.startswith("https:")


@dataclass(frozen=True, slots=True)
class Tls:
    """The settings for TLS: paths of files and of a folder, the name in the certificate, and the verification."""

    certificate: str = ""
    key: str = ""
    authorities: str = ""
    folder: str = ""
    server_name: str = ""
    is_verified: bool = True


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a `nomad` directive. The TTL is in seconds. `basic` is the value of the header field
    Authorization.
    """

    position: Position = field(compare=False)
    zone: str
    addresses: tuple[Address, ...]
    filter: str = ""
    token: str = field(default="", repr=False)
    ttl: int = TTL
    region: str = ""
    basic: str = field(default="", repr=False)
    tls: Tls = Tls()
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's first `nomad` directive. Raises CorefileError."""
    return _parse(block, os.environ)


def _parse(block: Block, environ: Mapping[str, str]) -> Options:
    directive = block.directives[0]
    addresses: list[Token] = []
    texts = {"filter": "", "token": environ.get("NOMAD_TOKEN", "")}
    ttl = TTL
    for line in arguments.body(directive):
        arguments.no_body(line)
        name = line.name.text.lower()
        match name:
            case "address":
                if not line.arguments:
                    raise CorefileError(line.position, "at least one address is required")
                addresses += line.arguments
            case "filter" | "token":
                texts[name] = _one(line, name) or texts[name]
            case "ttl":
                ttl = _ttl(line)
            case _:
                raise arguments.unknown_option(line, _KNOWN)
    words = addresses or [Token("", directive.position)]
    default = environ.get("NOMAD_ADDR", "") or ADDRESS
    return Options(
        directive.position,
        arguments.zone(directive.arguments[0]) if directive.arguments else f"{ZONE}.",
        tuple(_address(word, word.text or default) for word in words),
        texts["filter"],
        texts["token"],
        ttl,
        environ.get("NOMAD_REGION", ""),
        environ.get("NOMAD_HTTP_AUTH", ""),
        _tls(environ),
        _warnings(block),
    )


def _one(line: Directive, name: str) -> str:
    if len(line.arguments) != 1:
        raise CorefileError(line.position, f"exactly one {name} is required")
    return line.arguments[0].text


def _ttl(line: Directive) -> int:
    if len(line.arguments) != 1:
        raise CorefileError(line.position, "exactly one ttl value is required")
    word = line.arguments[0]
    digits = word.text.removeprefix("-").removeprefix("+")
    if not (digits.isascii() and digits.isdecimal()):
        raise CorefileError(word.position, f"error parsing ttl: '{word.text}' is not a number of seconds")
    seconds = int(word.text)
    if not 0 <= seconds <= MAX_TTL:
        raise CorefileError(word.position, f"ttl must be in range [0, {MAX_TTL}]: {seconds}")
    return seconds


def _address(word: Token, text: str) -> Address:
    try:
        parts = urlsplit(text)
        if parts.scheme == "unix" and parts.path:
            return Address("http://127.0.0.1", parts.path)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return Address(f"{parts.scheme}://{parts.netloc}")
    except ValueError:
        pass
    raise CorefileError(word.position, f"invalid address '{text}': http://HOST:PORT was expected")


def _tls(environ: Mapping[str, str]) -> Tls:
    return Tls(
        environ.get("NOMAD_CLIENT_CERT", ""),
        environ.get("NOMAD_CLIENT_KEY", ""),
        environ.get("NOMAD_CACERT", ""),
        environ.get("NOMAD_CAPATH", ""),
        environ.get("NOMAD_TLS_SERVER_NAME", ""),
        environ.get("NOMAD_SKIP_VERIFY", "") not in _TRUE,
    )


def _warnings(block: Block) -> tuple[str, ...]:
    out = tuple(
        arguments.warning(word.position, f"zone '{word.text}' is ignored, nomad has one zone")
        for word in block.directives[0].arguments[1:]
    )
    return out + tuple(
        arguments.warning(other.position, "'nomad' is ignored, only the first one of a server block is used")
        for other in block.directives[1:]
    )
