"""The options of `route53` (docs/plugins/route53.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Token
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.environment import Block
from svcdns.zones.hosted_zone_options import hosted_zones
from svcdns.zones.hosted_zones import Options, ZoneGroup, ZoneSource

OPTIONS: Final = ("aws_access_key", "aws_endpoint", "credentials", "fallthrough", "refresh")
REFRESH: Final = 60.0
_NUMBER: Final = re.compile(r"[+-]?[0-9]+")


@dataclass(frozen=True, slots=True)
class Source(ZoneSource):
    """Hosted zones, and how to reach them. An empty text stands for the default of the AWS library.

    `credentials_file` is a file with shared credentials, and `profile` a profile in it.
    """

    endpoint: str = ""
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    profile: str = ""
    credentials_file: str = ""

    @property
    def account(self) -> tuple[str, ...]:
        """Returns the endpoint and the names of the credentials."""
        return self.endpoint, self.access_key, self.profile, self.credentials_file


def parse(block: Block) -> Options:
    """Returns the options of the block's `route53` directives. Raises CorefileError."""
    warnings: list[str] = []
    return Options(tuple(_group(directive, warnings) for directive in block.directives), tuple(warnings))


def _group(directive: Directive, warnings: list[str]) -> ZoneGroup:
    hosted = hosted_zones(directive.arguments, _hosted_zone)
    fallthrough: tuple[str, ...] = ()
    settings: dict[str, str] = {}
    refresh = REFRESH
    lines = tuple(arguments.options(directive, {"aws_endpoint": 1, "refresh": 1}))
    warnings += arguments.ignored_option_zones(lines, {"fallthrough": 0})
    for line in lines:
        match line.name.text:
            case "aws_access_key":
                if len(line.arguments) < 2:  # the text must not show the word that is there
                    raise CorefileError(line.position, "invalid access key: an ID and a secret key were expected")
                settings["access_key"], settings["secret_key"] = (word.text for word in line.arguments[:2])
            case "aws_endpoint":
                settings["endpoint"] = arguments.first(line).text
            case "credentials":
                profile, *file = arguments.arguments(line, 1, 2)
                settings["profile"] = profile.text
                settings["credentials_file"] = file[0].text if file else ""
            case "fallthrough":
                fallthrough = arguments.fallthrough(line)
            case "refresh":
                refresh = _refresh(arguments.first(line))
            case "upstream":
                text = "'upstream' is ignored, it has no effect any more"
                warnings.append(arguments.warning(line.position, text))
            case _:
                raise arguments.unknown_option(line, OPTIONS)
    return ZoneGroup(Source(hosted, refresh, **settings), fallthrough, directive.position)


def _hosted_zone(text: str) -> tuple[str, str] | None:
    zone, colon, ident = text.partition(":")
    return (zone, ident) if zone and colon and ident else None


def _refresh(word: Token) -> float:
    text = f"{word.text}s" if _NUMBER.fullmatch(word.text) else word.text
    try:
        seconds = arguments.duration(Token(text, word.position))
    except CorefileError as error:
        raise CorefileError(word.position, f"Unable to parse duration: {error.message}") from error
    if seconds <= 0:
        raise CorefileError(word.position, f'refresh interval must be greater than 0: "{text}"')
    return seconds
