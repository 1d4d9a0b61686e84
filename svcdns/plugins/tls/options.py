"""The options of `tls` (docs/plugins/tls.md)."""

from __future__ import annotations

import ipaddress
import re
import ssl
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Position, Token
from svcdns.corefile.env_options import is_from_environment
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.environment import Block

ENVIRONMENT: Final = ("state",)
"""Options that environment variables can set, see `corefile.env_options`."""
CLIENT_AUTH: Final = {
    "nocert": ssl.CERT_NONE,
    "verify_if_given": ssl.CERT_OPTIONAL,
    "require_and_verify": ssl.CERT_REQUIRED,
}
UNCHECKED: Final = ("request", "require")
"""The values of `client_auth` that request client certificates without verifying them."""
OWN: Final = ("client_auth", "keylog")
"""The options with certificates from files."""
ACME: Final = ("acme", "email", "ca", "storage", "ca_root", "resolver")
"""The options with certificates from an ACME server."""
LETS_ENCRYPT: Final = "https://acme-v02.api.letsencrypt.org/directory"
STORAGE: Final = ".coredns/acme"
"""The default of `storage` without a state folder, below the folder of *root*."""
CHALLENGES: Final = "\0challenges "
"""The first part of the keys of challenge values in the plugin's data. All other keys are those of certificates."""
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Acme:
    """How one certificate is obtained from an ACME server. Server blocks with equal values share the certificate.

    `domains` are in lower case, sorted, without a dot at the end. `storage` and `ca_root` are paths. `resolver` is the
    host and the port of a DNS server, or None for the system's resolver.
    """

    domains: tuple[str, ...]
    email: str = ""
    ca: str = LETS_ENCRYPT
    storage: str = STORAGE
    ca_root: str = ""
    resolver: tuple[str, int] | None = None

    @property
    def text(self) -> str:
        """Returns the domains as text, for log lines and labels of metrics."""
        return ",".join(self.domains)

    @property
    def key(self) -> str:
        """Returns a text that is different for each set of values."""
        return " ".join(
            map(str, (self.text, self.ca, self.storage, self.email or "-", self.ca_root or "-", self.resolver))
        )

    @property
    def data_key(self) -> str:
        """Returns the key of the certificate in the data that the control process sends to the workers."""
        return f"acme {self.key}"

    @property
    def challenges_key(self) -> str:
        """Returns the key of the values of challenges in the data that the control process sends to the workers."""
        return f"{CHALLENGES}{self.key}"


@dataclass(frozen=True, slots=True)
class Options:
    """The paths of the certificate and key files, or the ACME server. Relative paths start from the folder of *root*.

    `client_auth` is one of CLIENT_AUTH and UNCHECKED. `certificate`, `authorities` and `keylog` are empty if not
    configured. `managed` has the ACME options of all server blocks.
    """

    position: Position
    certificate: str = ""
    key: str = ""
    authorities: str = ""
    client_auth: str = "nocert"
    keylog: str = ""
    acme: Acme | None = None
    managed: tuple[Acme, ...] = ()

    @property
    def data_key(self) -> str:
        """Returns the key of the certificate in the data that the control process sends to the workers."""
        if self.acme is not None:
            return self.acme.data_key
        return f"{self.certificate} {self.key} {self.authorities} {self.client_auth} {self.keylog}"


def parse(block: Block) -> Options:
    """Returns the options of the block's last `tls` directive. Raises CorefileError."""
    return [_options(directive, block.root) for directive in block.directives][-1]


def share(options: list[Options | None]) -> list[Options | None]:
    """Adds the ACME options of all blocks to the options of each block.

    `options` has one item for each server block: None for a block without `tls`. With ACME, every block gets options,
    so that it answers queries for challenges. Raises CorefileError if two blocks have the same domain, and differ in
    another ACME option.
    """
    owners: dict[str, Acme] = {}
    first: Position | None = None
    for one in options:
        if one is None or one.acme is None:
            continue
        first = first or one.position
        for domain in one.acme.domains:
            if owners.setdefault(domain, one.acme) != one.acme:
                text = f"plugin/tls: ACME domain '{domain}' is configured with conflicting options"
                raise CorefileError(one.position, text)
    if first is None:
        return options
    managed = tuple(dict.fromkeys(owners.values()))
    return [replace(one or Options(first), managed=managed) for one in options]


def _options(directive: Directive, root: str) -> Options:
    lines = [line for line in arguments.body(directive) if not is_from_environment(line)]
    state = next((line for line in arguments.body(directive) if is_from_environment(line)), None)
    for line in lines:
        arguments.no_body(line)
    if not directive.arguments:
        storage = Path(root) / STORAGE if state is None else Path(arguments.argument(state).text) / "acme"
        return Options(directive.position, acme=_acme(directive, lines, root, str(storage)))
    words = [str(Path(root) / word.text) for word in arguments.arguments(directive, 2, 3)]
    certificate, key, authorities = (*words, "")[:3]
    options = Options(directive.position, certificate, key, authorities)
    for line in lines:
        options = replace(options, **_line(line, root))
    return options


def _line(line: Directive, root: str) -> dict[str, Any]:
    match line.name.text:
        case "client_auth":
            word = arguments.argument(line)
            return {"client_auth": arguments.one_of(word, (*CLIENT_AUTH, *UNCHECKED))}
        case "keylog":
            return {"keylog": str(Path(root) / arguments.argument(line).text)}
    raise arguments.unknown_option(line, OWN)


def _acme(directive: Directive, lines: list[Directive], root: str, storage: str) -> Acme:
    values: dict[str, Any] = {"storage": storage}
    seen: set[str] = set()
    for line in lines:
        name = line.name.text
        if name in seen:
            raise CorefileError(line.position, f"plugin/tls: ACME option '{name}' can only be specified once")
        seen.add(name)
        values |= _acme_line(line, root)
    if "domains" not in values:
        raise CorefileError(directive.position, "plugin/tls: ACME requires at least one domain")
    return Acme(**values)


def _acme_line(line: Directive, root: str) -> dict[str, Any]:
    match line.name.text:
        case "acme":
            words = arguments.arguments(line, 1, arguments.UNBOUNDED)
            return {"domains": tuple(sorted({_domain(word) for word in words}))}
        case "email":
            return {"email": arguments.argument(line).text}
        case "ca":
            return {"ca": _url(arguments.argument(line))}
        case "storage" | "ca_root":
            return {line.name.text: str(Path(root) / arguments.argument(line).text)}
        case "resolver":
            return {"resolver": _resolver(arguments.argument(line))}
    raise arguments.unknown_option(line, ACME)


def _domain(word: Token) -> str:
    text = word.text.lower().removesuffix(".")
    name = text.removeprefix("*.")
    try:
        if not name.isascii():
            name = name.encode("idna").decode()
    except UnicodeError:
        name = ""
    is_name = len(name) <= 253 - len("_acme-challenge.") and all(_LABEL.fullmatch(label) for label in name.split("."))
    if not is_name or _is_address(name):
        raise CorefileError(word.position, f"plugin/tls: invalid ACME domain '{word.text}'")
    return f"*.{name}" if text.startswith("*.") else name


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _url(word: Token) -> str:
    try:
        parts = urlsplit(word.text)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not parts.username
    except ValueError:
        is_url = False
    if not is_url:
        raise CorefileError(word.position, f"plugin/tls: invalid ACME CA URL '{word.text}'")
    return word.text


def _resolver(word: Token) -> tuple[str, int]:
    host, port = arguments.host_port(word)
    if not host or not port:
        raise CorefileError(word.position, f"plugin/tls: invalid ACME resolver '{word.text}'")
    return host, port
