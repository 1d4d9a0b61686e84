"""`local`: answers queries for names that must not be forwarded (RFC 6303, RFC 6761 §6.3).

See docs/behaviour/plugins.md#local.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Increment, Reply
from svcdns.telemetry.counters import Family, MetricKind
from svcdns.wire import names
from svcdns.wire.codes import Rcode, Type
from svcdns.wire.record import Record

TTL: Final = 604800
LOCALHOST_REQUESTS: Final = Family(
    "coredns_local_localhost_requests_total",
    MetricKind.COUNTER,
    "Queries for localhost.<domain> names.",
)

_LOCALHOST: Final = names.from_text("localhost.")
_ZONES: Final = tuple(
    names.from_text(zone) for zone in ("localhost.", "0.in-addr.arpa.", "127.in-addr.arpa.", "255.in-addr.arpa.")
)
_LOOPBACK_PTR: Final = names.from_text("1.0.0.127.in-addr.arpa.")
_SOA: Final = _LOCALHOST + names.from_text("root.localhost.") + struct.pack("!IIIII", 1, 0, 0, 0, TTL)
_ADDRESSES: Final = {Type.A: bytes((127, 0, 0, 1)), Type.AAAA: bytes(15) + b"\1"}
_APEX: Final = {Type.SOA: _SOA, Type.NS: _LOCALHOST}


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `local`.

    If `localhost_prefix` is true, every name whose first label is `localhost` is answered.
    """

    localhost_prefix: bool = True


def parse(block: Block) -> Options:
    """Returns the options of the block's `local` directives. Raises CorefileError.

    If an option occurs several times, its last value is used.
    """
    prefix = True
    for directive in block.directives:
        arguments.arguments(directive, 0, 0)
        for line in arguments.body(directive):
            if line.name.text != "localhost_prefix":
                raise arguments.unknown_option(line, ("localhost_prefix",))
            prefix = arguments.one_of(arguments.argument(line), ("on", "off")) == "on"
    return Options(prefix)


class Local(Plugin):
    """Answers queries in the local zones, and passes all other queries to the next plugin."""

    name = "local"

    def __init__(self, options: Options, environment: Environment) -> None:
        self._prefix, self._counters = options.localhost_prefix, environment.counters
        self._cell = environment.counters.cell(LOCALHOST_REQUESTS)

    def answers_like(self, previous: Plugin) -> bool:  # noqa: ARG002
        """Returns True, because replies depend only on the options, the query and the rest of the chain."""
        return True

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers queries in the local zones.

        `localhost.` and names below it have loopback addresses. With `localhost_prefix`, other names whose first label
        is `localhost` also have them. In the other local zones, a name without records gets NXDOMAIN.
        """
        key = query.key
        if key != _LOCALHOST and (
            names.is_within(key, _LOCALHOST) or (self._prefix and key.startswith(_LOCALHOST[:-1]))
        ):
            self._counters.add(self._cell)
            return _answer(query, _ADDRESSES, query.name, ((self._cell, 1.0),))
        for zone in _ZONES:
            if names.is_within(key, zone):
                return self._in_zone(query, zone)
        return following(query)

    @staticmethod
    def _in_zone(query: Query, zone: bytes) -> Reply:
        apex = query.name[len(query.name) - len(zone) :]
        if query.key == zone:
            return _answer(query, _APEX if zone != _LOCALHOST else {**_APEX, **_ADDRESSES}, apex)
        if query.key == _LOOPBACK_PTR:
            return _answer(query, {Type.PTR: _LOCALHOST}, apex)
        return Reply(Rcode.NXDOMAIN, query.reply_flags, authority=(_soa(apex),), lifetime=UNTIL_CHANGED)


def _answer(query: Query, data: dict[int, bytes], apex: bytes, increments: tuple[Increment, ...] = ()) -> Reply:
    """Returns the record of the queried type, or NODATA with the SOA record at `apex`."""
    for rtype, rdata in data.items():
        if rtype == query.rtype:
            record = Record(query.name, rtype, TTL, rdata)
            return Reply(flags=query.reply_flags, answer=(record,), lifetime=UNTIL_CHANGED, increments=increments)
    return Reply(flags=query.reply_flags, authority=(_soa(apex),), lifetime=UNTIL_CHANGED, increments=increments)


def _soa(owner: bytes) -> Record:
    return Record(owner, Type.SOA, TTL, _SOA)


PLUGIN: Final = Local
