"""The options of `dnssec` (docs/plugins/dnssec.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Position
from svcdns.plugin_api.environment import Block
from svcdns.wire import names

OPTIONS: Final = ("key", "cache_capacity")
SOURCES: Final = ("file", "aws_secretsmanager")
DEFAULT_CAPACITY: Final = 10000
"""The number of RRsets whose signatures are stored without the option `cache_capacity`."""


class KeyPath(NamedTuple):
    """The path of a key pair, without the suffix of its two files, and the position of its word in the Corefile.

    If `is_secret` is True, `base` is the name of a secret in AWS Secrets Manager instead.
    """

    base: str
    position: Position
    is_secret: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """The zones to sign as wire names in lower case, the keys, and the number of RRsets whose signatures are stored."""

    zones: tuple[bytes, ...]
    keys: tuple[KeyPath, ...] = ()
    capacity: int = DEFAULT_CAPACITY
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's only `dnssec` directive. Raises CorefileError."""
    directive = arguments.once(block.directives)
    zones = arguments.zones(directive.arguments, block.zones)
    warnings = arguments.ignored_zones(directive.arguments)
    keys: list[KeyPath] = []
    capacity = DEFAULT_CAPACITY
    for line in arguments.body(directive):
        match line.name.text:
            case "key":
                keys += _keys(line, block.root)
            case "cache_capacity":
                capacity = max(arguments.integer(arguments.argument(line), -(2**31)), 1)
            case _:
                raise arguments.unknown_option(line, OPTIONS)
    return Options(tuple(names.from_text(zone) for zone in zones), tuple(keys), capacity, warnings)


def _keys(line: Directive, root: str) -> Iterator[KeyPath]:
    arguments.no_body(line)
    source, *words = arguments.arguments(line, 2, arguments.UNBOUNDED)
    if arguments.one_of(source, SOURCES) != "file":
        yield from (KeyPath(word.text, word.position, is_secret=True) for word in words)
        return
    for word in words:
        text = word.text
        base = text.removesuffix(".key") if text.endswith(".key") else text.removesuffix(".private")
        yield KeyPath(str(Path(root, base)), word.position)
