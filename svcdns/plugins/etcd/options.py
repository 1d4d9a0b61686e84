"""The options of `etcd` (docs/behaviour/plugins.md#etcd)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Position, Token
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.environment import Block
from svcdns.tls.material import file_paths

PATH: Final = "skydns"
ENDPOINT: Final = "http://localhost:2379"
PORT: Final = 2379
MIN_LEASE_TTL: Final = 30
MAX_LEASE_TTL: Final = 86400
_KNOWN: Final = ("path", "endpoint", "credentials", "tls", "fallthrough", "min-lease-ttl", "max-lease-ttl")
_ONE_WORD: Final = {"path": 1, "min-lease-ttl": 1, "max-lease-ttl": 1, "stubzones": 0, "debug": 0}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An etcd server. `socket` is the path of a Unix socket, in place of host and port."""

    text: str
    host: str
    port: int
    is_secure: bool = False
    socket: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """The keys below a path of an etcd cluster. `tls` has the paths of certificate, key and authorities."""

    endpoints: tuple[Endpoint, ...]
    path: str
    user: str = ""
    password: str = field(default="", repr=False)
    tls: tuple[str, str, str] = ("", "", "")

    @property
    def prefix(self) -> str:
        """Returns the path with a slash at its beginning, and without one at its end."""
        return "/" + "/".join(part for part in self.path.split("/") if part not in ("", "."))

    @property
    def key(self) -> str:
        """Returns the prefix that all keys of this source have in the plugin's data. Each source has its own prefix."""
        places = " ".join(one.text for one in self.endpoints)
        secret = hashlib.sha256(repr((self.user, self.password, self.tls)).encode()).hexdigest()
        return f"{self.prefix} {places} {secret[:16]}"


@dataclass(frozen=True, slots=True)
class Options:
    """The options of an `etcd` directive. The times of leases are in seconds."""

    position: Position = field(compare=False)
    zones: tuple[str, ...]
    source: Source
    fallthrough: tuple[str, ...] = ()
    min_lease_ttl: int = MIN_LEASE_TTL
    max_lease_ttl: int = MAX_LEASE_TTL
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's first `etcd` directive. Raises CorefileError."""
    directive = block.directives[0]
    path, credentials = PATH, ("", "")
    words: tuple[Token, ...] = (Token(ENDPOINT, directive.position),)
    tls: tuple[str, str, str] | None = None
    fallthrough: tuple[str, ...] = ()
    lease_ttls = {"min-lease-ttl": MIN_LEASE_TTL, "max-lease-ttl": MAX_LEASE_TTL}
    lines = tuple(arguments.options(directive, _ONE_WORD))
    for line in lines:
        arguments.no_body(line)
        match line.name.text:
            case "path":
                path = arguments.argument(line).text
            case "endpoint":
                words = arguments.arguments(line, 1, arguments.UNBOUNDED)
            case "credentials":
                credentials = _credentials(line)
            case "tls":
                tls = file_paths([word.text for word in arguments.arguments(line, 0, 3)], block.root)
            case "fallthrough":
                fallthrough = arguments.fallthrough(line)
            case "min-lease-ttl" | "max-lease-ttl" as name:
                lease_ttls[name] = _ttl(name, arguments.argument(line)) or lease_ttls[name]
            case "stubzones" | "debug" | "upstream":
                pass
            case _:
                raise arguments.unknown_option(line, _KNOWN)
    endpoints = tuple(_endpoint(word, secure=tls is not None) for word in words)
    source = Source(endpoints, path, *credentials, tls or ("", "", ""))
    return Options(
        directive.position,
        arguments.zones(directive.arguments, block.zones),
        source,
        fallthrough,
        lease_ttls["min-lease-ttl"],
        lease_ttls["max-lease-ttl"],
        _warnings(block, lines),
    )


def _warnings(block: Block, lines: tuple[Directive, ...]) -> tuple[str, ...]:
    out = arguments.ignored_zones(block.directives[0].arguments)
    out += tuple(
        arguments.warning(line.position, f"'{line.name.text}' is ignored, it has no effect any more")
        for line in lines
        if line.name.text in ("stubzones", "debug", "upstream")
    )
    return out + tuple(
        arguments.warning(other.position, "'etcd' is ignored, only the first one of a server block is used")
        for other in block.directives[1:]
    )


def _credentials(line: Directive) -> tuple[str, str]:
    words = arguments.arguments(line, 1, arguments.UNBOUNDED)
    if len(words) != 2:
        raise CorefileError(line.position, "credentials requires 2 arguments, username and password")
    user, password = (word.text for word in words)
    return (user, password) if user and password else ("", "")


def _ttl(name: str, word: Token) -> int:
    """Returns the seconds of a duration; a number without a unit is a number of seconds."""
    text = word.text.strip()
    try:
        seconds = float(text) if text.isascii() and text.isdecimal() else arguments.duration(word) if text else 0.0
    except CorefileError as error:
        expected = "invalid TTL format, use format like '30', '30s', '5m', '1h', or '2h30m'"
        raise CorefileError(word.position, f"invalid {name} value: {expected}") from error
    if seconds < 0:
        raise CorefileError(word.position, f"invalid {name} value: TTL must be non-negative")
    if seconds > 2**32 - 1:
        raise CorefileError(word.position, f"invalid {name} value: TTL too large, maximum is 4294967295 seconds")
    return int(seconds)


def _endpoint(word: Token, *, secure: bool) -> Endpoint:
    """Parses `http://HOST:PORT`, `https://HOST:PORT`, `HOST:PORT` or `unix://PATH`.

    `HOST:PORT` uses TLS if `secure` is true.
    """
    scheme, separator, rest = word.text.partition("://")
    if not separator:
        scheme, rest = ("https" if secure else "http"), word.text
    if scheme in ("unix", "unixs") and rest:
        return Endpoint(word.text, "localhost", 0, scheme == "unixs", rest)
    place = rest.partition("/")[0]
    host, colon, port = place.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = place, str(PORT)
    bracketed = host.startswith("[") and host.endswith("]")
    right_port = port.isascii() and port.isdecimal() and 0 < int(port[:6]) <= 65535
    if scheme not in ("http", "https") or not host or not right_port or (":" in host and not bracketed):
        raise CorefileError(word.position, f"'{word.text}' is not an endpoint; http://HOST:PORT was expected")
    return Endpoint(word.text, host[1:-1] if bracketed else host, int(port), scheme == "https")
