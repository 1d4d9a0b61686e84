"""The options of `transfer` (docs/behaviour/plugins.md#transfer)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Token
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.environment import Block

ANY_CLIENT: Final = "*"


@dataclass(frozen=True, slots=True)
class Rule:
    """One `transfer` directive.

    `to` has addresses in canonical text, with ports. `any_client` is true if `*` is an argument of `to`. NOTIFY
    messages are sent from the address `source`. If it is empty, the kernel chooses the address.
    """

    zones: tuple[str, ...]
    to: tuple[tuple[str, int], ...]
    any_client: bool = False
    source: str = ""

    def allows(self, address: str) -> bool:
        """Returns True if a client with that address, in canonical text, may transfer the zones."""
        return self.any_client or any(address == host for host, _ in self.to)


@dataclass(frozen=True, slots=True)
class Options:
    """All `transfer` directives of a server block, in the order of the Corefile."""

    rules: tuple[Rule, ...]
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's `transfer` directives. Raises CorefileError."""
    return Options(
        tuple(_rule(directive, block) for directive in block.directives),
        arguments.ignored_zones([word for directive in block.directives for word in directive.arguments]),
    )


def _rule(directive: Directive, block: Block) -> Rule:
    words: list[Token] = []
    source = ""
    for line in arguments.body(directive):
        arguments.no_body(line)
        match line.name.text:
            case "to":
                words += arguments.arguments(line, 1, arguments.UNBOUNDED)
            case "source":
                if source:
                    raise CorefileError(line.position, "source is given already")
                source = arguments.ip_address(arguments.argument(line))
            case _:
                raise arguments.unknown_option(line, ("to", "source"))
    if not words:
        raise CorefileError(directive.position, "'to' is required")
    to = tuple(arguments.server_address(word, 0) for word in words if word.text != ANY_CLIENT)
    return Rule(arguments.zones(directive.arguments, block.zones), to, len(to) < len(words), source)
