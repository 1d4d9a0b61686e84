"""`loadbalance`: varies the order of addresses from answer to answer (spec C-loadbalance).

The handler puts each section into its order and marks the reply; the table compiles such a reply in several rotations, so that a hit
costs no shuffling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from svcdns.chain.environment import Block, Environment
from svcdns.chain.handler import Following, then
from svcdns.chain.query import Answer, Query
from svcdns.corefile import reading
from svcdns.corefile.errors import CorefileError
from svcdns.wire.codes import Rcode, Type
from svcdns.wire.reply import Reply
from svcdns.wire.rotation import in_order


@dataclass(frozen=True, slots=True)
class Options:
    """Round robin has no options."""


def parse(block: Block) -> Options:
    """The options of the block's last `loadbalance` directive. Raises CorefileError."""
    for directive in block.directives:
        for word in reading.arguments(directive, 0, 2):
            if word.text == "weighted":
                raise CorefileError(word.position, "policy 'weighted' is not built yet; see docs/supported.md")
            reading.one_of(word, ("round_robin",))
        for line in reading.body(directive):
            if line.name.text == "prefer":
                raise CorefileError(line.position, "option 'prefer' is not built yet; see docs/supported.md")
            raise reading.unknown_option(line, ("prefer",))
    return Options()


class LoadBalance:
    """Marks replies whose addresses are to be rotated."""

    name = "loadbalance"

    def __init__(self, options: Options, environment: Environment) -> None:
        """Needs nothing of either."""

    def alike(self, zone: bytes) -> bool:  # noqa: ARG002 - one record has no order
        """Every name alike: there is nothing to vary in a negative answer."""
        return True

    def handle(self, query: Query, following: Following) -> Answer:
        """Asks on; every NOERROR reply that was written comes back in order and marked. Never a zone transfer."""
        if query.rtype in (Type.AXFR, Type.IXFR):
            return following(query)
        return then(following(query), _marked)


def _marked(reply: Reply) -> Reply:
    if reply.rcode != Rcode.NOERROR or not reply.written or (len(reply.answer) < 2 and len(reply.additional) < 2):
        return reply
    return msgspec.structs.replace(
        reply,
        answer=in_order(reply.answer),
        authority=in_order(reply.authority),
        additional=in_order(reply.additional),
        rotate=True,
    )


PLUGIN: Final = LoadBalance
