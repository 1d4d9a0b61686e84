"""`minimal`: leaves out the sections of an answer that the client does not need (docs/behaviour/plugins.md#minimal).

Denials, errors and delegations need their authority section, and are not changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from svcdns.corefile import arguments
from svcdns.plugin_api.contract import Following, Plugin, then
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.plugin_api.reply_type import MessageType, classify
from svcdns.wire.codes import Rcode


@dataclass(frozen=True, slots=True)
class Options:
    """`minimal` has no options."""


def parse(block: Block) -> Options:
    """Checks that the directive stands alone. Raises CorefileError."""
    arguments.without_arguments(block.directives)
    return Options()


class Minimal(Plugin):
    """Removes the authority and additional sections of answers."""

    name = "minimal"

    def __init__(self, options: Options, environment: Environment) -> None:
        """Uses neither."""

    def handle(self, query: Query, following: Following) -> Answer:
        """The following plugins' answer, shortened."""

        def shortened(reply: Reply) -> Reply:
            if not reply.has_message and not reply.error:
                return rcode_only(
                    Rcode.SERVFAIL
                )  # as CoreDNS, which fails here without a message: a zone transfer's REFUSED
            if not reply.has_message or reply.dropped or classify(query, reply) is not MessageType.NOERROR:
                return reply
            return msgspec.structs.replace(reply, authority=(), additional=(), edns=None)

        return then(following(query), shortened)


PLUGIN: Final = Minimal
