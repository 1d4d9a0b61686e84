"""The options of `secondary` (docs/behaviour/plugins.md#secondary)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.zone_transfer import has_transfer

ENVIRONMENT = ("state",)
"""Options that environment variables can set, see `corefile.env_options`."""


class Ixfr(StrEnum):
    """How newer versions are transferred. UDP means that the first query is sent over UDP (RFC 1995 §2)."""

    TCP = "tcp"
    UDP = "udp"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Rule:
    """One `secondary` directive: its zones as text, and the addresses of their primary servers, in order.

    If the zones are catalogs, `members` has the zones, as text, that a zone of the catalog must be in; empty for all.
    """

    zones: tuple[str, ...]
    primaries: tuple[tuple[str, int], ...]
    members: tuple[str, ...] | None = None
    ixfr: Ixfr = Ixfr.TCP


@dataclass(frozen=True, slots=True)
class Options:
    """All `secondary` directives of a server block. `fallthrough` applies to all of them, as in CoreDNS.

    `state` is the state folder; empty if there is none. With `has_history`, zones keep the differences between their
    versions, for the plugin *transfer*.
    """

    rules: tuple[Rule, ...]
    fallthrough: tuple[str, ...] = ()
    state: str = ""
    has_history: bool = False
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's `secondary` directives. Raises CorefileError."""
    rules: list[Rule] = []
    fallthrough: tuple[str, ...] = ()
    state = ""
    for directive in block.directives:
        primaries: list[tuple[str, int]] = []
        members: tuple[str, ...] | None = None
        ixfr = Ixfr.TCP
        for line in arguments.body(directive):
            arguments.no_body(line)
            match line.name.text:
                case "transfer":
                    primaries += _primaries(line)
                case "fallthrough":
                    fallthrough = arguments.fallthrough(line)
                case "catalog":
                    members = (members or ()) + tuple(arguments.zone(word) for word in line.arguments)
                case "state":
                    state = arguments.argument(line).text
                case "ixfr":
                    ixfr = Ixfr(arguments.one_of(arguments.argument(line), tuple(Ixfr)))
                case _:
                    raise arguments.unknown_option(line, ("transfer", "catalog", "fallthrough", "ixfr", "state"))
        if not primaries:
            raise CorefileError(directive.position, "secondary zones require a transfer from property")
        rules.append(Rule(arguments.zones(directive.arguments, block.zones), tuple(primaries), members, ixfr))
    ignored = arguments.ignored_zones([word for directive in block.directives for word in directive.arguments])
    return Options(tuple(rules), fallthrough, state, has_transfer(block), ignored)


def _primaries(line: Directive) -> list[tuple[str, int]]:
    direction, *words = arguments.arguments(line, 2, arguments.UNBOUNDED)
    if direction.text != "from":
        raise CorefileError(direction.position, f"unknown property '{direction.text}'; 'from' was expected")
    for word in words:
        if word.text == "*":
            raise CorefileError(word.position, "can't use '*' in transfer from")
    return [arguments.server_address(word, 1) for word in words]
