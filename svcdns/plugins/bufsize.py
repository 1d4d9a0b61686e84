"""`bufsize`: limits the UDP payload size that clients advertise.

It lowers the size of the query itself, so the limit holds for what is forwarded, for the reply, and for the reply's OPT
record, which mirrors the client's.
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
    """The limit in octets; the default is that of DNS Flag Day 2020."""

    size: int = 1232


def parse(block: Block) -> Options:
    """The options of the block's first `bufsize` directive. Raises CorefileError."""
    directive = block.directives[0]
    arguments.no_body(directive)
    words = arguments.arguments(directive, 0, 1)
    return Options(arguments.integer(words[0], 512, 4096)) if words else Options()


class Bufsize(Plugin):
    """Lowers larger sizes to the limit; never raises one."""

    name = "bufsize"

    def __init__(self, options: Options, environment: Environment) -> None:  # noqa: ARG002 - needs no surroundings
        """Uses only the options."""
        self._size = options.size

    def handle(self, query: Query, following: Following) -> Answer:
        """Lowers the query's EDNS size if it is larger; the following plugins answer."""
        if query.edns is not None and query.edns.size > self._size:
            query.edns = msgspec.structs.replace(query.edns, size=self._size)
        return following(query)


PLUGIN: Final = Bufsize
