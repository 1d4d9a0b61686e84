"""The options of `k8s_external` (docs/behaviour/plugins.md#k8s_external)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.environment import Block
from svcdns.wire import names
from svcdns.wire.errors import NameTextError

MAX_TTL: Final = 3600


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one server block. Zones are text. `ttl` is in seconds.

    The targets of PTR records are names in the first zone. Without zones, no query is answered.
    """

    zones: tuple[str, ...]
    apex: str = "dns"
    ttl: int = 5
    headless: bool = False
    fallthrough: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of all `k8s_external` directives of the block. Raises CorefileError.

    If there are several directives, the zones of the last one are used.
    """
    last = block.directives[-1]
    if not any(other.name.text == "kubernetes" for other in block.others):
        raise CorefileError(
            last.position, "plugin/k8s_external: kubernetes plugin not loaded: the server block has no 'kubernetes'"
        )
    zones = arguments.zones(last.arguments, block.zones)
    values: dict[str, object] = {}
    lines = [line for directive in block.directives for line in arguments.options(directive, {"headless": 0})]
    for line in lines:
        arguments.no_body(line)
        match line.name.text:
            case "apex":
                word = arguments.first(line)
                try:
                    names.from_text(word.text)
                except NameTextError as error:
                    raise CorefileError(word.position, f"'{word.text}' is not a domain name: {error}") from None
                values["apex"] = word.text
            case "ttl":
                values["ttl"] = arguments.integer(arguments.first(line), 0, MAX_TTL)
            case "headless":
                values["headless"] = True
            case "fallthrough":
                values["fallthrough"] = arguments.fallthrough(line)
            case _:
                raise arguments.unknown_option(line, ("apex", "ttl", "headless", "fallthrough"))
    ignored = arguments.ignored_zones(last.arguments) + arguments.ignored_words(lines, {"ttl": 1, "apex": 1})
    ignored += arguments.ignored_option_zones(lines, {"fallthrough": 0})
    return Options(zones, warnings=ignored, **values)  # type: ignore[arg-type]
