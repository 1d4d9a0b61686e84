"""The options of `auto` (docs/behaviour/plugins.md#auto)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Position
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.regex import Regex, compiled, regex
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.zone_transfer import has_transfer

RELOAD: Final = 60.0
PATTERN: Final = r"db\.(.*)"
TEMPLATE: Final = "${1}"
_REFERENCE: Final = re.compile(r"\$(?:\$|\{(\w+)\}|(\w+))")


@dataclass(frozen=True, slots=True)
class Directory:
    """One `auto` directive: a folder, and how file names become zone names.

    - `zones` are the zones that the directive covers, as text.
    - `path` is the folder, or empty if the directive names none.
    - `template` makes the name of a zone from the groups of `pattern`, with the syntax of Go's `Regexp.Expand`.
    - The folder is scanned every `reload` seconds; with 0, only once.
    - With `has_history`, the zones keep the differences between their versions.
    """

    position: Position = field(compare=False)
    zones: tuple[str, ...]
    path: str = ""
    pattern: Regex = field(default_factory=lambda: compiled(PATTERN))
    template: str = TEMPLATE
    reload: float = RELOAD
    has_history: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Returns the key of the list of zones in the plugin's data. The keys of the zones begin with it."""
        return f"{self.path} {self.pattern.text} {self.template}"

    def origin(self, name: str) -> str | None:
        """Returns the zone name, as text, for the name of a file. Returns None if the pattern does not match."""
        groups = self.pattern.find(name)
        if groups is None:
            return None
        by_name = dict(self.pattern.names)

        def value(found: re.Match[str]) -> str:
            word = found[1] or found[2]
            if word is None:
                return "$"
            number = int(word) if word.isdecimal() else by_name.get(word, len(groups))
            return groups[number] if number < len(groups) else ""

        return _REFERENCE.sub(value, self.template) or None


@dataclass(frozen=True, slots=True)
class Options:
    """The options of all `auto` directives of a server block."""

    directories: tuple[Directory, ...]


def parse(block: Block) -> Options:
    """Returns the options of the block's `auto` directives. Raises CorefileError."""
    return Options(tuple(_directory(directive, block) for directive in block.directives))


def _directory(directive: Directive, block: Block) -> Directory:
    path, pattern, template, reload = "", compiled(PATTERN), TEMPLATE, RELOAD
    lines = arguments.body(directive)
    warnings = arguments.ignored_zones(directive.arguments) + arguments.ignored_words(lines, {"reload": 1})
    for line in lines:
        arguments.no_body(line)
        match line.name.text:
            case "directory":
                words = arguments.arguments(line, 1, 3)
                path = str(Path(block.root) / words[0].text)
                if len(words) > 1:
                    pattern = regex(words[1])
                    if not pattern.groups:
                        raise CorefileError(words[1].position, "Need at least one sub expression")
                    template = arguments.arguments(line, 3, 3)[2].text.replace("{", "${")
            case "reload":
                if not line.arguments:
                    raise CorefileError(line.position, "reload duration value is expected")
                reload = arguments.duration(line.arguments[0])
                if reload < 0:
                    raise CorefileError(line.arguments[0].position, "invalid duration")
            case "upstream":
                warnings += (arguments.warning(line.position, "'upstream' is ignored, it has no effect any more"),)
            case _:
                raise arguments.unknown_option(line, ("directory", "reload"))
    if not path:
        warnings += (arguments.warning(directive.position, "no 'directory' is given, so that there are no zones"),)
    zones = arguments.zones(directive.arguments, block.zones)
    return Directory(directive.position, zones, path, pattern, template, reload, has_transfer(block), warnings)
