"""The `hosts` plugin: answers A, AAAA and PTR queries from a hosts file and from entries in the Corefile.

The control process reads the file. In an answer, the addresses from the file come before those from the Corefile. A
reply has the file as a dependency if a change of the file could change the reply. See docs/behaviour/plugins.md#hosts.
"""

from __future__ import annotations

from typing import Final

from svcdns.cluster.addresses import from_reverse
from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.networks import packed
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply, rcode_only
from svcdns.plugin_api.settings import Settings
from svcdns.plugins.hosts.options import Options, decode
from svcdns.plugins.hosts.table import HostsTable, read
from svcdns.telemetry.counters import Family, MetricKind
from svcdns.wire import names
from svcdns.wire.codes import AA, Rcode, Type
from svcdns.wire.record import Record

ENTRIES: Final = Family(
    "coredns_hosts_entries",
    MetricKind.GAUGE,
    "Number of addresses of all names plus number of names of all addresses.",
    ("hostsfile",),
    uniform=True,
)
RELOADED: Final = Family(
    "coredns_hosts_reload_timestamp_seconds",
    MetricKind.GAUGE,
    "Modification time of the hosts file that was read last, in Unix seconds.",
    uniform=True,
)
_FAMILIES: Final = (Type.A, Type.AAAA)


class Hosts(Plugin):
    """Answers queries for the names and addresses in the entries of one server block."""

    name = "hosts"

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with a warning for each word of the Corefile that has no effect."""
        return Settings(warnings=options.warnings)

    def __init__(self, options: Options, environment: Environment) -> None:
        """Takes the table that the control process has sent, and registers for the tables that it sends later."""
        self._options, self._environment = options, environment
        self._zones = tuple(names.from_text(zone).lower() for zone in options.zones)
        self._fallthrough = tuple(names.from_text(zone).lower() for zone in options.fallthrough)
        self._covers_all, self._passes_all = names.ROOT in self._zones, names.ROOT in self._fallthrough
        self._dependency: Dependency = ("hosts", options.data_key)
        self._dependencies = (self._dependency,)
        self._inline = read(options.inline, options.zones, reverse=options.reverse)
        self._file = HostsTable()
        self._known = self._inline.known()
        """The names that have an address, and the wildcards."""
        content = environment.data("hosts", options.data_key)
        if content is not None:
            self._load(content)
        environment.on_data("hosts", options.data_key, self._changed)

    def _changed(self, content: bytes) -> None:
        self._load(content)
        self._environment.invalidate((self._dependency,))

    def _load(self, content: bytes) -> None:
        changed, self._file = decode(content)
        self._known = self._file.known() | self._inline.known()
        counters = self._environment.counters
        counters.set(counters.cell(ENTRIES, self._options.path), len(self._file) + len(self._inline))
        counters.set(counters.cell(RELOADED), changed)

    def answers_like(self, previous: Plugin) -> bool:  # noqa: ARG002
        """Returns True: replies that depend on changed data are dropped, also during a reload."""
        return True

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers queries for names and addresses that have an entry.

        If a name in the plugin's zones has no entry, the reply is SERVFAIL, unless the option `fallthrough` covers the
        name. All other queries go to the next plugin.
        """
        key, rtype = query.key, query.rtype
        if rtype == Type.PTR:
            found = self._names_of(key)
            return self._reply(query, found) if found else following(query)
        if not _within(key, self._zones):
            return following(query)
        falls_through = _within(key, self._fallthrough)
        if rtype not in _FAMILIES and self._options.fallthrough_unsupported and falls_through:
            return following(query)
        found = self._addresses(key, rtype) if rtype in _FAMILIES else []
        if found or any(self._addresses(key, family) for family in _FAMILIES):
            return self._reply(query, found)
        if falls_through:
            return following(query)
        return rcode_only(Rcode.SERVFAIL)  # a denial needs a SOA record, and there is none

    def join_fast_path(self, fast_path: FastPath) -> bool:
        """Adds `_passes` to the fast path (forwarding without the plugin chain), and returns True."""
        fast_path.passes += (self._passes,)
        return True

    def join_cold_path(self, cold_path: ColdPath) -> bool:
        """Adds `_passes` to the cold path (replies without the plugin chain), and returns True."""
        cold_path.passes += (self._passes,)
        return True

    def _passes(self, key: bytes, rtype: int) -> tuple[Dependency, ...] | None:
        """Returns the dependencies of passing a query on to the next plugin, or None if `handle` must answer it."""
        if rtype == Type.PTR:
            address = packed(from_reverse(key))
            if address is None:
                return ()
            has_names = address in self._file.reverse or address in self._inline.reverse
            return None if has_names else self._dependencies
        if not (self._covers_all or _within(key, self._zones)):
            return ()
        if not (self._passes_all or _within(key, self._fallthrough)):
            return None
        if rtype not in _FAMILIES and self._options.fallthrough_unsupported:
            return ()
        known = self._known
        if known and (key in known or (len(key) > 1 and b"\x01*" + key[1 + key[0] :] in known)):
            return None
        return self._dependencies

    def _addresses(self, key: bytes, rtype: int) -> list[bytes]:
        self._environment.depends_on(self._dependency)
        return self._file.addresses(key, rtype) + self._inline.addresses(key, rtype)

    def _names_of(self, key: bytes) -> list[bytes]:
        address = packed(from_reverse(key))
        if address is None:
            return []
        self._environment.depends_on(self._dependency)
        return self._file.reverse.get(address, []) + self._inline.reverse.get(address, [])

    def _reply(self, query: Query, rdata: list[bytes]) -> Reply:
        answer = tuple(Record(query.key, query.rtype, self._options.ttl, data) for data in rdata)
        return Reply(flags=query.reply_flags | AA, answer=answer, lifetime=UNTIL_CHANGED)


def _within(key: bytes, zones: tuple[bytes, ...]) -> bool:
    return any(names.is_within(key, zone) for zone in zones)
