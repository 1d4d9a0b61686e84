"""`bufsize`: limits the size of replies over UDP (RFC 6891 §6.2.3).

The plugin lowers the UDP payload size in the query, so the limit also applies to forwarded queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from svcdns.corefile import arguments
from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.settings import Settings

DEFAULT_SIZE: Final = 1232


@dataclass(frozen=True, slots=True)
class Options:
    """The largest UDP payload size in octets. The default is that of DNS Flag Day 2020."""

    size: int = DEFAULT_SIZE
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's first `bufsize` directive. Raises CorefileError."""
    directive = block.directives[0]
    words = arguments.arguments(directive, 0, 1)
    size = arguments.integer(words[0], 512, 4096) if words else DEFAULT_SIZE
    return Options(size, arguments.ignored_body(directive))


class Bufsize(Plugin):
    """Lowers the UDP payload size of queries to the limit. A smaller size stays unchanged."""

    name = "bufsize"
    offers = ("limit",)

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with the UDP payload size to advertise, and a warning for each word that has no effect."""
        return Settings(udp_size=options.size, warnings=options.warnings)

    def __init__(self, options: Options, environment: Environment) -> None:  # noqa: ARG002 - needs no surroundings
        self.limit = options.size

    def answers_like(self, previous: Plugin) -> bool:  # noqa: ARG002
        """Returns True, because replies depend only on the options, the query and the rest of the chain."""
        return True

    def handle(self, query: Query, following: Following) -> Answer:
        """Lowers the query's EDNS payload size if it is larger than the limit, and passes the query on."""
        if query.edns is not None and query.edns.size > self.limit:
            query.edns = msgspec.structs.replace(query.edns, size=self.limit)
        return following(query)

    def join_fast_path(self, fast_path: FastPath) -> bool:
        """Limits the payload size on the fast path (forwarding without the plugin chain), and returns True."""
        fast_path.largest = self.limit
        return True

    def join_cold_path(self, cold_path: ColdPath) -> bool:
        """Limits the payload size on the cold path (replies without the plugin chain), and returns True."""
        cold_path.largest = self.limit
        return True

    def name_independent(self, zone: bytes) -> bool:  # noqa: ARG002 - a size has nothing to do with a name
        """Returns True, because this plugin treats all names in the same way."""
        return True


PLUGIN: Final = Bufsize
