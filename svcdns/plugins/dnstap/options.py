"""The options of the `dnstap` plugin (docs/plugins/dnstap.md)."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from svcdns import __version__
from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Position, Token
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.networks import packed

QUEUE_UNIT: Final = 10_000
"""The number of messages in one unit of the argument `queue`."""
MAX_BUFFER: Final = 1024
MAX_QUEUE: Final = 4096
_OPTIONS: Final = ("identity", "version", "extra", "skipverify", "tls")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where messages are sent to, or where readers connect to if `listens` is true.

    `scheme` is `unix`, `tcp` or `tls`. `path` is the path of a Unix socket. `buffer` is the send buffer of a connection
    in MiB, and `queue` the most messages that wait in one worker. `files` are the certificate, the key and the
    authorities of a listener with TLS.
    """

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    listens: bool = False
    verifies: bool = True
    buffer: int = 1
    queue: int = QUEUE_UNIT
    files: tuple[str, str, str] = ("", "", "")

    @property
    def text(self) -> str:
        """Returns the endpoint as in the Corefile, for log lines and the labels of metrics."""
        if self.scheme == "unix":
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_name(self) -> bool:
        """Returns True if the host is a name, whose addresses the control process looks up."""
        return self.scheme != "unix" and not self.listens and packed(self.host) is None


@dataclass(frozen=True, slots=True)
class Output:
    """One `dnstap` directive."""

    endpoint: Endpoint
    full: bool = False
    identity: bytes = b""
    version: bytes = b""
    extra: str = ""
    position: Position | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Options:
    """The `dnstap` directives of one block, in the order of the Corefile."""

    outputs: tuple[Output, ...]


def parse(block: Block) -> Options:
    """Returns the options of the block's `dnstap` directives. Raises CorefileError."""
    return Options(tuple(_output(directive) for directive in block.directives))


def _output(directive: Directive) -> Output:
    words = arguments.arguments(directive, 1, arguments.UNBOUNDED)
    listens = words[0].text == "listen"
    if listens:
        words = words[1:]
        if not words:
            raise CorefileError(directive.position, "dnstap listen requires an endpoint argument")
    buffer = _multiple(words[2], "MultipleTcpWriteBuf", MAX_BUFFER) if len(words) > 2 else 1
    queue = _multiple(words[3], "MultipleQueue", MAX_QUEUE) if len(words) > 3 else 1
    texts = {"identity": socket.gethostname(), "version": f"svcdns-{__version__}", "extra": ""}
    verifies, files = True, ("", "", "")
    for line in arguments.body(directive):
        name = line.name.text
        if name in texts:
            texts[name] = arguments.first(line).text
        elif name == "skipverify":
            verifies = False
        elif name == "tls":
            files = _files(line, listens=listens)
        else:
            raise arguments.unknown_option(line, _OPTIONS)
    scheme, host, port, path = _place(words[0])
    if listens and scheme == "tls" and not files[0]:
        raise CorefileError(directive.position, "a TLS listener requires the option 'tls' with a certificate and a key")
    endpoint = Endpoint(scheme, host, port, path, listens, verifies, buffer, queue * QUEUE_UNIT, files)
    return Output(
        endpoint,
        len(words) > 1 and words[1].text == "full",
        texts["identity"].encode(),
        texts["version"].encode(),
        texts["extra"],
        directive.position,
    )


def _multiple(word: Token, name: str, most: int) -> int:
    text = word.text
    if not (text.isascii() and text.removeprefix("+").isdecimal()):
        raise CorefileError(word.position, f"dnstap: invalid {name} '{text}'")
    number = int(text[:12])
    if not 1 <= number <= most:
        raise CorefileError(word.position, f"dnstap: {name} must be between 1 and {most}: {number}")
    return number


def _files(line: Directive, *, listens: bool) -> tuple[str, str, str]:
    if not listens:
        raise CorefileError(line.position, "tls directive only valid for listeners")
    words = arguments.arguments(line, 0, arguments.UNBOUNDED)
    if len(words) < 2:
        raise CorefileError(line.position, "tls requires cert and key file paths")
    paths = [word.text for word in words[:3]]
    return paths[0], paths[1], paths[2] if len(paths) > 2 else ""


def _place(word: Token) -> tuple[str, str, int, str]:
    """Returns the scheme, the host, the port and the path of an endpoint."""
    text = word.text
    scheme, separator, _ = text.partition("://")
    if scheme not in ("tcp", "tls") or not separator:
        path = text.removeprefix("unix://")
        if not path:
            raise CorefileError(word.position, f"'{text}' is not an endpoint")
        return "unix", "", 0, path
    try:
        url = urlsplit(text)
        host, port = url.hostname or "", url.port
    except ValueError:
        host, port = "", None
    if port is None or not port > 0:
        raise CorefileError(word.position, f"'{text}' is not an endpoint; {scheme}://HOST:PORT was expected")
    return scheme, host, port, ""
