"""The options of `geoip` (docs/plugins/geoip.md)."""

from __future__ import annotations

from dataclasses import dataclass, field

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Position
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.environment import Block


@dataclass(frozen=True, slots=True)
class Options:
    """The path of a database. With `edns_subnet`, the network in the option Client Subnet replaces the address."""

    path: str
    edns_subnet: bool = False
    position: Position | None = field(default=None, compare=False)


def parse(block: Block) -> Options:
    """Returns the options of the block's only `geoip` directive. Raises CorefileError."""
    if len(block.directives) > 1:
        raise CorefileError(block.directives[1].position, "configuring multiple databases is not supported")
    (directive,) = block.directives
    word = arguments.argument(directive)
    edns_subnet = False
    for line in arguments.options(directive, {"edns-subnet": 0}):
        if line.name.text != "edns-subnet":
            raise arguments.unknown_option(line, ("edns-subnet",))
        edns_subnet = True
    return Options(word.text, edns_subnet, directive.position)
