"""`tenant ZONE NETWORK`: refuses queries for names in ZONE unless they come from NETWORK."""

from __future__ import annotations

from dataclasses import dataclass

from svcdns.plugin_api import (
    Answer,
    Block,
    CorefileError,
    Environment,
    Following,
    Network,
    NetworkTextError,
    Plugin,
    Query,
    Reply,
    arguments,
    names,
    packed,
)


@dataclass(frozen=True, slots=True)
class Options:
    """The zone as a lowered wire name, and the network that may ask for its names."""

    zone: bytes
    network: Network


def parse(block: Block) -> Options:
    """The options of the block's `tenant` directive. Raises CorefileError. No I/O."""
    directive = arguments.once(block.directives)
    arguments.no_body(directive)
    word, network = arguments.arguments(directive, 2, 2)
    try:
        return Options(names.from_text(arguments.zone(word)).lower(), Network.from_text(network.text))
    except NetworkTextError as error:
        raise CorefileError(network.position, str(error)) from error


class Tenant(Plugin):
    """Refuses the queries of others."""

    name = "tenant"
    before = "local"  # before every plugin that answers queries, so that the policy covers all answers

    def __init__(self, options: Options, environment: Environment) -> None:
        """Needs the options alone."""
        super().__init__(options, environment)
        self._zone, self._network = options.zone, options.network

    def client_class(self, address: str) -> str:
        """Two classes of clients: those in the network, and all others."""
        found = packed(address)
        return "in" if found is not None and found in self._network else "out"

    def handle(self, query: Query, following: Following) -> Answer:
        """Refuses names in the zone to clients outside of the network."""
        if names.is_within(query.key, self._zone) and self.client_class(query.client.address) == "out":
            return Reply.refused(query)
        return following(query)


PLUGIN = Tenant
