"""`whoami`: answers a query with the client's own address, port and transport (docs/behaviour/plugins.md#whoami)."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply
from svcdns.wire.codes import AA, Type
from svcdns.wire.names import ROOT
from svcdns.wire.record import Record


@dataclass(frozen=True, slots=True)
class Options:
    """`whoami` has no options."""


def parse(block: Block) -> Options:
    """Checks that the directive has no arguments. Raises CorefileError."""
    arguments.without_arguments(block.directives)
    return Options()


class Whoami(Plugin):
    """Answers every query with the client's own address, port and transport."""

    name = "whoami"

    def __init__(self, options: Options, environment: Environment) -> None:
        """Does nothing."""

    def handle(self, query: Query, following: Following) -> Answer:  # noqa: ARG002 - answers every query
        """Returns a reply with an empty answer section.

        The additional section has the client's address, and a SRV record with the client's port.
        """
        address = ipaddress.ip_address(query.client.address.partition("%")[0])
        rtype = Type.A if address.version == 4 else Type.AAAA
        prefix = b"_" + query.client.protocol.encode()
        owner = bytes((len(prefix),)) + prefix + query.name
        service = struct.pack("!HHH", 0, 0, query.client.port) + ROOT
        return Reply(
            flags=query.reply_flags | AA,
            additional=(
                Record(query.name, rtype, 0, address.packed, query.rclass),
                Record(owner, Type.SRV, 0, service, query.rclass),
            ),
        )


PLUGIN: Final = Whoami
