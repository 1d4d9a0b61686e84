"""The options of `sign` (docs/plugins/sign.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Position
from svcdns.plugin_api.environment import Block

DIRECTORY: Final = "/var/lib/coredns"
SLASH: Final = "\\047"
"""The text that replaces a slash of a zone's name in the name of the signed file."""
_SUFFIXES: Final = (".key", ".private")


@dataclass(frozen=True, slots=True)
class KeyPath:
    """The path of the two files of a key, without their suffix. With `is_folder`, the path of a folder with keys."""

    position: Position = field(compare=False)
    path: str
    is_folder: bool = False


@dataclass(frozen=True, slots=True)
class ZoneToSign:
    """A zone as absolute text, the file with its records, its keys, and the folder for the signed file."""

    position: Position = field(compare=False)
    file: str
    zone: str
    keys: tuple[KeyPath, ...]
    directory: str = DIRECTORY

    @property
    def signed_file(self) -> str:
        """Returns the path of the signed file."""
        return str(Path(self.directory) / f"db.{self.zone.replace('/', SLASH)}signed")


@dataclass(frozen=True, slots=True)
class Options:
    """The zones of all `sign` directives of a server block."""

    zones: tuple[ZoneToSign, ...]
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's `sign` directives. Raises CorefileError."""
    zones: list[ZoneToSign] = []
    warnings: list[str] = []
    for directive in block.directives:
        zones += _zones(directive, block, warnings)
    return Options(tuple(zones), tuple(warnings))


def _zones(directive: Directive, block: Block, warnings: list[str]) -> list[ZoneToSign]:
    file, *origins = arguments.arguments(directive, 1, arguments.UNBOUNDED)
    warnings += arguments.ignored_zones(origins)
    keys: list[KeyPath] = []
    directory = DIRECTORY
    for line in arguments.body(directive):
        arguments.no_body(line)
        match line.name.text:
            case "key":
                keys += _keys(line, block)
            case "directory":
                directory = str(Path(block.root) / arguments.argument(line).text)
            case _:
                raise arguments.unknown_option(line, ("key", "directory"))
    if not keys:
        warnings.append(arguments.warning(directive.position, "there is no 'key', so that no signatures are made"))
    path = str(Path(block.root) / file.text)
    zones = arguments.zones(origins, block.zones)
    return [ZoneToSign(file.position, path, zone, tuple(keys), directory) for zone in zones]


def _keys(line: Directive, block: Block) -> list[KeyPath]:
    kind, *words = arguments.arguments(line, 2, arguments.UNBOUNDED)
    paths = [str(Path(block.root) / word.text) for word in words]
    if arguments.one_of(kind, ("file", "directory")) == "directory":
        arguments.arguments(line, 2, 2)
        return [KeyPath(words[0].position, paths[0], is_folder=True)]
    return [KeyPath(word.position, _without_suffix(path)) for word, path in zip(words, paths, strict=True)]


def _without_suffix(path: str) -> str:
    return next((path.removesuffix(suffix) for suffix in _SUFFIXES if path.endswith(suffix)), path)
