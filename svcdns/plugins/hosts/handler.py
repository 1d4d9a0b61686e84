"""The `hosts` plugin: addresses, and names of addresses, from a hosts file and the Corefile
(docs/behaviour/plugins.md#hosts).

Answers are the file's entries, then those of the Corefile. Whatever the file had a say in, a name that it does not have included, rests on
it. Owner names in answers are lowered, as CoreDNS's are.
"""

from __future__ import annotations

from typing import Final

from svcdns.cluster.addresses import from_reverse
from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.contract import Following, joined, then
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.networks import packed
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply, rcode_only
from svcdns.plugins.hosts.options import Options, unpacked
from svcdns.plugins.hosts.table import Table, read
from svcdns.telemetry.counters import Family, MetricKind
from svcdns.wire import names
from svcdns.wire.codes import AA, Rcode, Type
from svcdns.wire.record import Record

ENTRIES: Final = Family("coredns_hosts_entries", MetricKind.GAUGE, "Addresses and names of the entries.", ("hostsfile",), uniform=True)
RELOADED: Final = Family(
    "coredns_hosts_reload_timestamp_seconds",
    MetricKind.GAUGE,
    "When the file that was read last had been changed, Unix seconds.",
    uniform=True,
)
_FAMILIES: Final = (Type.A, Type.AAAA)


class Hosts:
    """The hosts of one block."""

    name = "hosts"

    def __init__(self, options: Options, environment: Environment) -> None:
        """The file's content comes from control, now or later."""
        self._options, self._environment = options, environment
        self._zones = tuple(names.from_text(zone).lower() for zone in options.zones)
        self._fallthrough = tuple(names.from_text(zone).lower() for zone in options.fallthrough)
        self._owner: Dependency = ("hosts", options.data_key)
        self._rests_on_file = Reply(lifetime=UNTIL_CHANGED, dependencies=(self._owner,))
        self._inline = read(options.inline, options.zones, reverse=options.reverse)
        self._file = Table()
        content = environment.data("hosts", options.data_key)
        if content is not None:
            self._take(content)
        environment.on_data("hosts", options.data_key, self._changed)

    def _changed(self, content: bytes) -> None:
        self._take(content)
        self._environment.invalidate((self._owner,))

    def _take(self, content: bytes) -> None:
        changed, self._file = unpacked(content)
        counters = self._environment.counters
        counters.set(counters.cell(ENTRIES, self._options.path), len(self._file) + len(self._inline))
        counters.set(counters.cell(RELOADED), changed)

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers A, AAAA and PTR of what the entries have; others go on where `fallthrough` says so."""
        key, rtype = query.key, query.rtype
        if rtype == Type.PTR:
            found = self._names_of(key)
            return self._reply(query, found) if found else self._on(query, following)
        if not _within(key, self._zones):
            return following(query)
        falls_through = _within(key, self._fallthrough)
        if rtype not in _FAMILIES and self._options.fallthrough_unsupported and falls_through:
            return following(query)
        found = self._addresses(key, rtype) if rtype in _FAMILIES else []
        if found or any(self._addresses(key, family) for family in _FAMILIES):
            return self._reply(query, found)
        if falls_through:
            return self._on(query, following)
        return rcode_only(Rcode.SERVFAIL)  # there is no SOA to deny the name with

    def _addresses(self, key: bytes, rtype: int) -> list[bytes]:
        return self._file.addresses(key, rtype) + self._inline.addresses(key, rtype)

    def _names_of(self, key: bytes) -> list[bytes]:
        address = packed(from_reverse(key))
        if address is None:
            return []
        return self._file.reverse.get(address, []) + self._inline.reverse.get(address, [])

    def _reply(self, query: Query, rdata: list[bytes]) -> Reply:
        answer = tuple(Record(query.key, query.rtype, self._options.ttl, one) for one in rdata)
        return Reply(flags=query.reply_flags | AA, answer=answer, lifetime=UNTIL_CHANGED, dependencies=(self._owner,))

    def _on(self, query: Query, following: Following) -> Answer:
        """The rest of the chain's answer, as long as the file does not have the name."""
        return then(following(query), lambda reply: joined(reply, self._rests_on_file))


def _within(key: bytes, zones: tuple[bytes, ...]) -> bool:
    return any(names.is_within(key, zone) for zone in zones)
