"""The options of `file` (docs/behaviour/plugins.md#file)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Position
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.zone_transfer import has_transfer

RELOAD: Final = 60.0


@dataclass(frozen=True, slots=True)
class ZoneFile:
    """One `file` directive: the path of a zone file, and the names of its zones as text.

    The file is read again every `reload` seconds; 0 means never. With `has_history`, the zones keep the differences
    between their versions.
    """

    position: Position = field(compare=False)
    path: str
    zones: tuple[str, ...]
    fallthrough: tuple[str, ...] = ()
    reload: float = RELOAD
    reload_by_mtime: bool = False
    has_history: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """The options of all `file` directives of a server block."""

    files: tuple[ZoneFile, ...]


def parse(block: Block) -> Options:
    """Returns the options of the block's `file` directives. Raises CorefileError."""
    return Options(tuple(_zone_file(directive, block) for directive in block.directives))


def _zone_file(directive: Directive, block: Block) -> ZoneFile:
    path, *origins = arguments.arguments(directive, 1, arguments.UNBOUNDED)
    fallthrough: tuple[str, ...] = ()
    reload, by_mtime = RELOAD, False
    warnings = arguments.ignored_zones(origins)
    lines = tuple(arguments.options(directive, {"reload_by_mtime": 0}))
    warnings += arguments.ignored_words(lines, {"reload": 1})
    warnings += arguments.ignored_option_zones(lines, {"fallthrough": 0})
    for line in lines:
        match line.name.text:
            case "reload":
                reload = arguments.duration(arguments.first(line))
            case "reload_by_mtime":
                arguments.arguments(line, 0, 0)
                by_mtime = True
            case "fallthrough":
                fallthrough = arguments.fallthrough(line)
            case "upstream":
                warnings += (arguments.warning(line.position, "'upstream' is ignored, it has no effect any more"),)
            case _:
                raise arguments.unknown_option(line, ("reload", "reload_by_mtime", "fallthrough"))
    return ZoneFile(
        path.position,
        str(Path(block.root) / path.text),
        arguments.zones(origins, block.zones),
        fallthrough,
        reload,
        by_mtime,
        has_transfer(block),
        warnings,
    )
