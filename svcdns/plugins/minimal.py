"""`minimal`: removes the sections of an answer that the client does not need (docs/behaviour/plugins.md#minimal).

Denials, errors and delegations are not changed, because they need their authority section.
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
    """Checks that the directive has no arguments. Raises CorefileError."""
    arguments.without_arguments(block.directives)
    return Options()


class Minimal(Plugin):
    """Removes the authority and additional sections of answers."""

    name = "minimal"

    def __init__(self, options: Options, environment: Environment) -> None:
        """Does nothing."""

    def answers_like(self, previous: Plugin) -> bool:  # noqa: ARG002
        """Returns True, because replies depend only on the options, the query and the rest of the chain."""
        return True

    def handle(self, query: Query, following: Following) -> Answer:
        """Removes the authority and additional sections from the following plugins' answer.

        Denials, errors and delegations stay unchanged. As in CoreDNS, a reply that is only an rcode without an error
        becomes SERVFAIL.
        """

        def shortened(reply: Reply) -> Reply:
            if not reply.has_message and not reply.error:
                return rcode_only(Rcode.SERVFAIL)  # CoreDNS also fails here, for instance for a zone transfer's REFUSED
            if not reply.has_message or reply.dropped or classify(query, reply) is not MessageType.NOERROR:
                return reply
            return msgspec.structs.replace(reply, authority=(), additional=(), edns=None)

        return then(following(query), shortened)


PLUGIN: Final = Minimal
