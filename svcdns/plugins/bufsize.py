"""`bufsize`: bounds the UDP payload size that clients advertise.

The size of the request itself is lowered, so the bound holds for what is forwarded, for the reply, and for its OPT, which mirrors
the client's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from svcdns.corefile import arguments
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.query import Answer, Query


@dataclass(frozen=True, slots=True)
class Options:
    """The bound in octets; the default is the one of DNS flag day 2020."""

    size: int = 1232


def parse(block: Block) -> Options:
    """The options of the block's first `bufsize` directive. Raises CorefileError."""
    directive = block.directives[0]
    arguments.no_body(directive)
    words = arguments.arguments(directive, 0, 1)
    return Options(arguments.integer(words[0], 512, 4096)) if words else Options()


class Bufsize(Plugin):
    """Lowers larger sizes to the bound; never raises one."""

    name = "bufsize"

    def __init__(self, options: Options, environment: Environment) -> None:  # noqa: ARG002 - needs no surroundings
        """Needs the bound alone."""
        self._size = options.size

    def handle(self, query: Query, following: Following) -> Answer:
        """Changes the query's EDNS where it says more, and asks on."""
        if query.edns is not None and query.edns.size > self._size:
            query.edns = msgspec.structs.replace(query.edns, size=self._size)
        return following(query)


PLUGIN: Final = Bufsize
