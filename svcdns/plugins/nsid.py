"""`nsid`: tells a client with the EDNS option NSID which server answered (RFC 5001)."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Final

import msgspec

from svcdns.corefile import arguments
from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Following, Plugin, then
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply
from svcdns.wire.codes import OptionCode
from svcdns.wire.record import Edns


@dataclass(frozen=True, slots=True)
class Options:
    """The identifier for the option NSID in replies. If it is empty, the host's name is used."""

    text: str = ""


def parse(block: Block) -> Options:
    """Returns the options of the block's `nsid` directive. Raises CorefileError."""
    directive = arguments.once(block.directives)
    arguments.no_body(directive)
    return Options(" ".join(word.text for word in directive.arguments))


class Nsid(Plugin):
    """Adds the identifier to a reply if the query has the option NSID."""

    name = "nsid"

    def __init__(self, options: Options, environment: Environment) -> None:  # noqa: ARG002 - needs no surroundings
        """Looks up the name of the host."""
        self._data = (options.text or socket.gethostname()).encode()

    def join_fast_path(self, fast_path: FastPath) -> bool:  # noqa: ARG002 - nothing to set
        """Returns True: queries with the option NSID never take the fast path (forwarding without the plugin chain)."""
        return True

    def join_cold_path(self, cold_path: ColdPath) -> bool:  # noqa: ARG002 - nothing to set
        """Returns True: queries with the option NSID never take the cold path (replies without the plugin chain)."""
        return True

    def handle(self, query: Query, following: Following) -> Answer:
        """Returns the following plugins' answer. If the query has the option NSID, adds the identifier to the reply."""
        if query.edns is None or all(code != OptionCode.NSID for code, _ in query.edns.options):
            return following(query)
        return then(following(query), self._with_identifier)

    def _with_identifier(self, reply: Reply) -> Reply:
        """Returns the reply with the option NSID in its OPT record."""
        if not reply.has_message or reply.dropped:
            return reply
        edns = reply.edns or Edns()
        others = tuple(option for option in edns.options if option[0] != OptionCode.NSID)
        return msgspec.structs.replace(
            reply, edns=msgspec.structs.replace(edns, options=(*others, (OptionCode.NSID, self._data)))
        )


PLUGIN: Final = Nsid
