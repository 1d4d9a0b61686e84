"""`any`: answers queries of type ANY with a minimal reply (RFC 8482, docs/behaviour/plugins.md#any)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply
from svcdns.wire.codes import Type
from svcdns.wire.record import Record

TTL: Final = 8482
_RDATA: Final = b"\x0dANY obsoleted\x0cSee RFC 8482"


@dataclass(frozen=True, slots=True)
class Options:
    """`any` has no options."""


def parse(block: Block) -> Options:
    """Checks that the directive has no arguments. Raises CorefileError."""
    arguments.without_arguments(block.directives)
    return Options()


class Any(Plugin):
    """Answers queries of type ANY with a HINFO record."""

    name = "any"

    def __init__(self, options: Options, environment: Environment) -> None:
        """Does nothing."""

    def join_fast_path(self, fast_path: FastPath) -> bool:  # noqa: ARG002 - nothing to set
        """Returns True, because queries of type ANY never take the fast path (forwarding without the plugin chain)."""
        return True

    def join_cold_path(self, cold_path: ColdPath) -> bool:  # noqa: ARG002 - nothing to set
        """Returns True, because queries of type ANY never take the cold path (replies without the plugin chain)."""
        return True

    def answers_like(self, previous: Plugin) -> bool:  # noqa: ARG002
        """Returns True, because replies depend only on the options, the query and the rest of the chain."""
        return True

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers type ANY with the HINFO record. Queries of other types go to the following plugins."""
        if query.rtype != Type.ANY:
            return following(query)
        return Reply(
            flags=query.reply_flags, answer=(Record(query.name, Type.HINFO, TTL, _RDATA),), lifetime=UNTIL_CHANGED
        )


PLUGIN: Final = Any
