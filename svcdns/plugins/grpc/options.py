"""The options of `grpc` (docs/plugins/grpc.md)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Position, Token
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.networks import packed
from svcdns.tls.material import file_paths

MAX_UPSTREAMS: Final = 15
POLICIES: Final = ("random", "round_robin", "sequential")
DNS_PORT: Final = 53
GRPC_PORT: Final = 443
_KNOWN: Final = ("except", "tls", "tls_servername", "policy", "fallthrough")
_ONE_WORD: Final = {"tls_servername": 1, "policy": 1}


@dataclass(frozen=True, slots=True)
class Upstream:
    """A gRPC server: an address and a port, or the path of a Unix socket."""

    host: str
    port: int
    socket: str = ""

    @property
    def label(self) -> str:
        """Returns the upstream as text, as in metrics."""
        if self.socket:
            return f"unix://{self.socket}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class File:
    """A file in the format of resolv.conf(5), whose name servers are the upstreams."""

    path: str

    @property
    def key(self) -> str:
        """Returns the key of the file's name servers in the plugin's data."""
        return f"servers {self.path}"


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a `grpc` directive.

    `tls` has the paths of certificate, key and authorities, or is None for connections without TLS. If FROM is a
    network of several reverse zones, only the first zone is used, and `left_out` has the others.
    """

    position: Position = field(compare=False)
    zone: str
    upstreams: tuple[Upstream | File, ...]
    left_out: tuple[str, ...] = ()
    excepted: tuple[str, ...] = ()
    tls: tuple[str, str, str] | None = None
    server_name: str = ""
    policy: str = "random"
    fallthrough: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def tls_key(self) -> str:
        """Returns the key of the certificates in the plugin's data; empty without TLS."""
        return "" if self.tls is None else f"tls {' '.join(self.tls)}"


def parse(block: Block) -> Options:
    """Returns the options of the block's only `grpc` directive. Raises CorefileError."""
    directive = arguments.once(block.directives)
    source, *words = arguments.arguments(directive, 2, arguments.UNBOUNDED)
    zones = arguments.zones([source])
    if not zones:
        raise CorefileError(source.position, f"unable to normalize '{source.text}'")
    if len(words) > MAX_UPSTREAMS:
        raise CorefileError(words[MAX_UPSTREAMS].position, f"more than {MAX_UPSTREAMS} TOs configured: {len(words)}")
    options = Options(directive.position, zones[0], tuple(map(_upstream, words)), zones[1:])
    lines = tuple(arguments.options(directive, _ONE_WORD))
    for line in lines:
        options = _with_line(options, line, block.root)
    if options.server_name and options.tls is None:
        options = replace(options, tls=("", "", ""))
    return replace(options, warnings=arguments.ignored_option_zones(lines, {"except": 0, "fallthrough": 0}))


def _with_line(options: Options, line: Directive, root: str) -> Options:
    arguments.no_body(line)
    match line.name.text:
        case "except":
            words = arguments.arguments(line, 1, arguments.UNBOUNDED)
            return replace(options, excepted=options.excepted + arguments.zones(words))
        case "tls":
            return replace(options, tls=file_paths([word.text for word in arguments.arguments(line, 0, 3)], root))
        case "tls_servername":
            return replace(options, server_name=arguments.argument(line).text)
        case "policy":
            word = arguments.argument(line)
            if word.text not in POLICIES:
                raise CorefileError(word.position, f"unknown policy '{word.text}'")
            return replace(options, policy=word.text)
        case "fallthrough":
            return replace(options, fallthrough=arguments.fallthrough(line))
    raise arguments.unknown_option(line, _KNOWN)


def _upstream(word: Token) -> Upstream | File:
    """Parses `IP`, `IP:PORT`, `[IPv6]:PORT`, `grpc://IP:PORT`, `unix://PATH`, or the path of a file."""
    scheme, separator, text = word.text.rpartition("://")
    if scheme == "unix" and text:
        return Upstream("localhost", 0, text)
    if separator and scheme not in ("grpc", "dns"):
        expected = "an address, unix://PATH or a file was expected"
        raise CorefileError(word.position, f"'{word.text}' is no upstream over gRPC; {expected}")
    port = GRPC_PORT if scheme == "grpc" else DNS_PORT
    if packed(text.strip("[]")) is not None:
        return Upstream(text.strip("[]"), port)
    host, colon, digits = text.rpartition(":")
    if colon and packed(host.strip("[]")) is not None:
        if not (digits.isascii() and digits.isdecimal() and 0 < int(digits[:6]) <= 65535):
            raise CorefileError(word.position, f"'{digits}' is not a port; 1 to 65535 was expected")
        return Upstream(host.strip("[]"), int(digits))
    if not text or scheme:
        raise CorefileError(word.position, f'invalid address: "{word.text}"')
    return File(str(Path(text)))
