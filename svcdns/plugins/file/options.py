"""The options of `file` (docs/behaviour/plugins.md#file), and the functions by which control reads its files."""

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
    """The zone file does not exist."""


@dataclass(frozen=True, slots=True)
class ZoneFile:
    """One `file` directive: a zone file, and the zones that it holds, as text. `reload` is in seconds, 0 for never."""

    position: Position
    path: str
    zones: tuple[str, ...]
    fallthrough: tuple[str, ...] = ()
    reload: float = RELOAD
    reload_by_mtime: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """All `file` directives of a server block."""

    files: tuple[ZoneFile, ...]


def parse(block: Block) -> Options:
    """The options of the block's `file` directives. Raises CorefileError."""
    return Options(tuple(_zone_file(directive, block) for directive in block.directives))


def _zone_file(directive: Directive, block: Block) -> ZoneFile:
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
    return ZoneFile(
        path.position,
        str(Path(block.root) / path.text),
        arguments.zones(origins, block.zones),
        fallthrough,
        reload,
        by_mtime,
    )


def data_key(path: str, zone: str) -> str:
    """The key of a zone's records in the data that control sends to the workers."""
    return f"{path} {zone}"


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """The records of each zone, as msgpack, by `data_key`. `known` is the result of the last read.

    An invalid file that was valid before keeps its last valid content. A missing file is logged and read later, unless
    `reload` is 0. Raises CorefileError for any other file that cannot be read.
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
    """Seconds between two reads of the files; 0 for never."""
    return min((file.reload for file in options.files if file.reload), default=0.0)


def refresh(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """The records of each zone after `reload` seconds.

    A zone is replaced if its serial differs, with `reload_by_mtime` always. An invalid file is logged, and its zone
    does not change.
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
