"""The options of `file` (docs/behaviour/plugins.md#file), and reading the zone files that it names; control does the
latter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Position
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.environment import Block
from svcdns.telemetry.logging import plugin_logger
from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.record import Record
from svcdns.wire.zone_text import ZoneFileError, read

RELOAD: Final = 60.0


class MissingError(ZoneFileError):
    """The zone file is not there."""


@dataclass(frozen=True, slots=True)
class Zones:
    """One `file` line: a zone file, the zones that are read from it, seconds between two looks at it."""

    position: Position
    path: str
    zones: tuple[str, ...]
    fallthrough: tuple[str, ...] = ()
    reload: float = RELOAD
    reload_by_mtime: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """All `file` lines of a block."""

    files: tuple[Zones, ...]


def parse(block: Block) -> Options:
    """The options of the block's `file` directives. Raises CorefileError."""
    return Options(tuple(_zones(directive, block) for directive in block.directives))


def _zones(directive: Directive, block: Block) -> Zones:
    path, *origins = arguments.arguments(directive, 1, arguments.UNBOUNDED)
    fallthrough: tuple[str, ...] = ()
    reload, by_mtime = RELOAD, False
    for line in arguments.body(directive):
        match line.name.text:
            case "reload":
                reload = arguments.duration(arguments.argument(line))
            case "reload_by_mtime":
                arguments.arguments(line, 0, 0)
                by_mtime = True
            case "fallthrough":
                fallthrough = arguments.fallthrough(line)
            case _:
                raise arguments.unknown_option(line, ("reload", "reload_by_mtime", "fallthrough"))
    return Zones(path.position, str(Path(block.root) / path.text), arguments.zones(origins, block.zones), fallthrough, reload, by_mtime)


def data_key(path: str, zone: str) -> str:
    """The key under which a zone's records are handed to the workers."""
    return f"{path} {zone}"


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """The records of each zone, as msgpack. A file that has gone wrong since it was read keeps its last good content; one that is not there
    yet is looked for again, unless `reload` is 0.

    Raises CorefileError for a file that was never good.
    """
    out = {}
    for file in options.files:
        for zone in file.zones:
            key = data_key(file.path, zone)
            try:
                out[key] = msgspec.msgpack.encode(_read(file.path, zone))
            except ZoneFileError as error:
                if key in known:
                    out[key] = known[key]
                elif not (isinstance(error, MissingError) and file.reload):
                    raise CorefileError(file.position, str(error)) from error
                plugin_logger("file").warning("%s", str(error).removeprefix("plugin/file: "))
    return out


def period(options: Options) -> float:
    """Seconds between two looks at the files; 0 for never."""
    return min((file.reload for file in options.files if file.reload), default=0.0)


def refresh(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """`gather` at the interval of `reload`: a zone is read anew when its serial differs, or its text with `reload_by_mtime`.

    A file that is wrong is logged, and the zone stays as it is.
    """
    out = dict(known)
    for file in options.files:
        for zone in file.zones if file.reload else ():
            key = data_key(file.path, zone)
            try:
                found = _read(file.path, zone)
            except ZoneFileError as error:
                plugin_logger("file").warning("%s", str(error).removeprefix("plugin/file: "))
                continue
            before = msgspec.msgpack.decode(known[key], type=list[Record]) if key in known else []
            if file.reload_by_mtime or _soas(found) != _soas(before):
                out[key] = msgspec.msgpack.encode(found)
    return out


def _soas(records: list[Record]) -> list[bytes]:
    return [record.rdata for record in records if record.rtype == Type.SOA]


def _read(path: str, zone: str) -> list[Record]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise MissingError(f"plugin/file: open {path}: {error.strerror}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ZoneFileError(f"plugin/file: open {path}: {getattr(error, 'strerror', None) or error}") from error
    origin = names.from_text(zone)
    records = read(text, origin, path)
    apex = origin.lower()
    if not any(record.rtype == Type.SOA and record.owner.lower() == apex for record in records):
        raise ZoneFileError(f"plugin/file: {path}: no SOA record for {zone}")
    return [record for record in records if names.is_within(record.owner.lower(), apex)]
