"""The options of `hosts` (docs/behaviour/plugins.md#hosts), and the functions that read the hosts file.

The control process calls these functions.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Position
from svcdns.corefile.errors import CorefileError
from svcdns.log_line import LogLine
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.networks import packed
from svcdns.plugins.hosts.table import HostsTable, read
from svcdns.telemetry.logging import plugin_logger

DEFAULT_FILE: Final = "/etc/hosts"
MAX_TTL: Final = 65535
NAMES: Final = ("fallthrough", "fallthrough_unsupported", "no_reverse", "ttl", "reload")
_STAMP: Final = struct.Struct("!dQ")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one server block. Zones are text.

    The file is checked every `reload` seconds; 0 means never. `ttl` is in seconds. `inline` has the lines of the
    entries in the Corefile. If `named` is true, the Corefile names the file, and a warning is logged if it is missing.
    """

    position: Position = field(compare=False)
    path: str
    named: bool
    zones: tuple[str, ...]
    inline: tuple[str, ...] = ()
    ttl: int = 3600
    reverse: bool = True
    reload: float = 5.0
    fallthrough: tuple[str, ...] = ()
    fallthrough_unsupported: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def data_key(self) -> str:
        """Returns the key of the file's table in the data that the control process sends to the workers."""
        return " ".join((self.path, *self.zones, *(() if self.reverse else ("no_reverse",))))


def parse(block: Block) -> Options:
    """Returns the options of the block's `hosts` directive. Raises CorefileError."""
    directive = arguments.once(block.directives)
    words = directive.arguments
    path = str(Path(block.root) / words[0].text) if words else DEFAULT_FILE
    options = Options(directive.position, path, bool(words), arguments.zones(words[1:], block.zones))
    lines = tuple(arguments.options(directive, {"no_reverse": 0}))
    for line in lines:
        arguments.no_body(line)
        options = replace(options, **_line(line, options))
    ignored = arguments.ignored_zones(words[1:]) + arguments.ignored_words(lines, {"ttl": 1})
    options = replace(options, warnings=ignored + arguments.ignored_option_zones(lines, {"fallthrough": 0}))
    if options.fallthrough_unsupported and not options.fallthrough:
        raise CorefileError(directive.position, "'fallthrough_unsupported' needs 'fallthrough'")
    return options


def _line(line: Directive, options: Options) -> dict[str, Any]:
    match line.name.text:
        case "fallthrough":
            return {"fallthrough": arguments.fallthrough(line)}
        case "fallthrough_unsupported":
            arguments.arguments(line, 0, 0)
            return {"fallthrough_unsupported": True}
        case "no_reverse":
            arguments.arguments(line, 0, 0)
            return {"reverse": False}
        case "ttl":
            return {"ttl": arguments.integer(arguments.first(line), 1, MAX_TTL)}
        case "reload":
            word = arguments.argument(line)
            seconds = arguments.duration(word)
            if seconds < 0:
                raise CorefileError(word.position, f"reload '{word.text}' is not at least 0")
            return {"reload": seconds}
    if options.fallthrough:
        hint = "; entries have to come before 'fallthrough'" if packed(line.name.text) is not None else ""
        error = arguments.unknown_option(line, NAMES)
        raise CorefileError(error.position, error.message + hint)
    return {"inline": (*options.inline, " ".join(word.text for word in (line.name, *line.arguments)))}


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:  # noqa: ARG001 - a new Corefile always reads the file
    """Reads the hosts file, and returns its encoded table. Returns an empty mapping if the file does not exist.

    Raises CorefileError if the file cannot be read.
    """
    log = plugin_logger("hosts")
    for line in options.inline:
        if packed(line.split()[0]) is None:
            place = f"{options.position.file}:{options.position.line}"
            log.warning(LogLine("a line without an address at its start is ignored", position=place, line=line))
    try:
        if Path(options.path).is_dir():
            log.warning('Hosts file "%s" is a directory', options.path)
            return {}
        return {options.data_key: _read(options)}
    except FileNotFoundError:
        if options.named:
            log.warning("File does not exist: %s", options.path)
        return {}
    except OSError as error:
        raise CorefileError(
            options.position, f"unable to access hosts file '{options.path}': {error.strerror}"
        ) from error


def period(options: Options) -> float:
    """Returns the seconds between two checks of the hosts file; 0 means never."""
    return options.reload


def refresh(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Reads the hosts file again if its modification time or size has changed, and returns its encoded table.

    Returns an empty mapping if they have not changed, or if the file cannot be read.
    """
    before = known.get(options.data_key, b"")
    try:
        status = Path(options.path).stat()
        if not options.reload or before.startswith(_STAMP.pack(status.st_mtime, status.st_size)):
            return {}
        return {options.data_key: _read(options)}
    except OSError:
        return {}


def _read(options: Options) -> bytes:
    path = Path(options.path)
    status = path.stat()
    lines = path.read_bytes().decode(errors="replace").split("\n")
    table = read(lines, options.zones, reverse=options.reverse)
    return _STAMP.pack(status.st_mtime, status.st_size) + msgspec.msgpack.encode(table)


def decode(content: bytes) -> tuple[float, HostsTable]:
    """Returns the modification time of the hosts file, as Unix seconds, and its table."""
    changed, _ = _STAMP.unpack_from(content)
    return changed, msgspec.msgpack.decode(memoryview(content)[_STAMP.size :], type=HostsTable)
