"""The options of `clouddns` (docs/plugins/clouddns.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive
from svcdns.plugin_api.environment import Block
from svcdns.zones.hosted_zone_options import hosted_zones
from svcdns.zones.hosted_zones import Options, ZoneGroup, ZoneSource

OPTIONS: Final = ("credentials", "fallthrough")


@dataclass(frozen=True, slots=True)
class Source(ZoneSource):
    """Managed zones. The identifier of a zone is `PROJECT:ZONE`.

    `credentials` is the path of a credentials file; if it is empty, the library looks for credentials.
    """

    credentials: str = ""

    @property
    def account(self) -> tuple[str, ...]:
        """Returns the path of the credentials file."""
        return (self.credentials,)


def parse(block: Block) -> Options:
    """Returns the options of the block's `clouddns` directives. Raises CorefileError."""
    warnings: list[str] = []
    return Options(tuple(_group(directive, warnings) for directive in block.directives), tuple(warnings))


def _group(directive: Directive, warnings: list[str]) -> ZoneGroup:
    hosted = hosted_zones(directive.arguments, _managed_zone)
    fallthrough: tuple[str, ...] = ()
    credentials = ""
    lines = tuple(arguments.options(directive, {"credentials": 1}))
    warnings += arguments.ignored_option_zones(lines, {"fallthrough": 0})
    for line in lines:
        match line.name.text:
            case "credentials":
                credentials = arguments.first(line).text
            case "fallthrough":
                fallthrough = arguments.fallthrough(line)
            case "upstream":
                text = "'upstream' is ignored, it has no effect any more"
                warnings.append(arguments.warning(line.position, text))
            case _:
                raise arguments.unknown_option(line, OPTIONS)
    return ZoneGroup(Source(hosted, credentials=credentials), fallthrough, directive.position)


def _managed_zone(text: str) -> tuple[str, str] | None:
    zone, project, name = (*text.split(":", 2), "", "")[:3]
    return (zone, f"{project}:{name}") if zone and project and name else None
