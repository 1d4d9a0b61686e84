"""The `etcd` plugin: answers from services in etcd, in the form of SkyDNS.

The control process watches etcd, and sends the entries to the workers. A reply depends on the part of the tree that was
searched for it, so the answer table keeps the reply until a key there changes.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final

from svcdns.cluster.changes import Dependency
from svcdns.corefile.zones import is_reverse
from svcdns.plugin_api.contract import Following, Plugin, steps
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply
from svcdns.plugin_api.settings import Settings
from svcdns.plugins.etcd import shards
from svcdns.plugins.etcd.lookup import Lookup, LookupFailedError, NoSuchNameError
from svcdns.plugins.etcd.metrics import CONNECTED, INVALID, KEYS
from svcdns.plugins.etcd.options import Options
from svcdns.plugins.etcd.records import Records
from svcdns.plugins.etcd.service import Entry
from svcdns.plugins.etcd.shards import SHARDS, State
from svcdns.plugins.etcd.tree import Tree, parts
from svcdns.wire import names
from svcdns.wire.codes import AA, TC, Rcode, Type
from svcdns.wire.record import Record

TTL: Final = 30
"""The TTL in seconds of SOA records, and so of negative answers."""
NEGATIVE_LIFETIME: Final = 30.0
"""The seconds after which a reply with a SOA record is made again, because of its serial."""
LEASE_LIFETIME: Final = 1.0
"""The seconds after which a reply with TTLs from a lease is made again."""
POLL_EVERY: Final = 100
"""The number of entries that are taken over before the sockets are read again."""
_SOA_TIMES: Final = b"".join(number.to_bytes(4, "big") for number in (7200, 1800, 86400, TTL))


class Etcd(Plugin):
    """Answers queries in the zones of one server block."""

    name = "etcd"

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with a warning for each word of the Corefile that has no effect."""
        return Settings(warnings=options.warnings)

    def __init__(self, options: Options, environment: Environment) -> None:
        """Takes the entries that the control process has sent, and registers for their changes."""
        self.options, self._environment = options, environment
        zones = {names.from_text(zone).lower(): zone for zone in options.zones}
        self._zones = sorted(zones, key=len, reverse=True)
        self._fallthrough = [names.from_text(zone).lower() for zone in options.fallthrough]
        self._source = options.source.key
        self._prefix = [part for part in parts(options.source.prefix) if part]
        self._tree, self._state = Tree(), State()
        self._shards: list[dict[str, Entry]] = [{} for _ in range(SHARDS)]
        self._leases: dict[int, int] = {}
        self._min_lease_ttl: int = options.min_lease_ttl
        self._max_lease_ttl: int = options.max_lease_ttl
        self._now = int(environment.clock())
        """The time on the machine's monotonic clock. The value is at most a second old."""
        self._depths = {zone: len(self._prefix) + len(names.labels_of(zone)) for zone in zones}
        """The length of the path of each zone."""
        for shard in range(SHARDS):
            self._follow(shard)
        self._follow_state()

    def _follow(self, shard: int) -> None:
        key = shards.shard_key(self._source, shard)

        def changed(payload: bytes) -> None:
            self._environment.invalidate(tuple(self._replace(shard, payload)))

        self._replace(shard, self._environment.data(self.name, key) or b"\x90")
        self._environment.on_data(self.name, key, changed)

    def _follow_state(self) -> None:
        def state(payload: bytes) -> None:
            self._state = shards.decode_state(payload)

        def leases(payload: bytes) -> None:
            self._leases = shards.decode_leases(payload)

        for key, call in ((shards.state_key(self._source), state), (shards.leases_key(self._source), leases)):
            payload = self._environment.data(self.name, key)
            if payload is not None:
                call(payload)
            self._environment.on_data(self.name, key, call)

    def _replace(self, shard: int, payload: bytes) -> set[Dependency]:
        """Takes over the entries of a shard, and returns the dependencies that have changed."""
        before, now = self._shards[shard], {}
        changed: set[Dependency] = set()
        for number, entry in enumerate(shards.decode_entries(payload)):
            if number % POLL_EVERY == 0:
                self._environment.poll_sockets()
            now[entry.key] = entry
            if before.get(entry.key) != entry:
                self._tree.put(entry)
                changed |= self._dependencies(entry.key)
        for key in before.keys() - now.keys():
            self._tree.remove(key)
            changed |= self._dependencies(key)
        self._shards[shard] = now
        return changed

    # -- dependencies: the path of a zone, and each path that is one part longer

    def _dependencies(self, key: str) -> set[Dependency]:
        """Returns the dependencies of replies that may have been made from a key."""
        path = parts(key)
        return {self._dependency(path[:length]) for depth in self._depths.values() for length in (depth, depth + 1)}

    def _dependency(self, path: Sequence[str]) -> Dependency:
        return ("etcd", self._source, "/".join(path))

    def _lookup(self, zone: bytes) -> Lookup:
        depth = self._depths[zone]

        def depends_on(path: Sequence[str]) -> None:
            self._environment.depends_on(self._dependency(path[: depth + 1]))

        return Lookup(self._tree, self._prefix, self._ttl_of_lease, depends_on)

    def _ttl_of_lease(self, lease: int) -> int:
        """Returns the remaining seconds of a lease, within the limits of the options; 0 if its end is unknown."""
        end = self._leases.get(lease, 0)
        if not end:
            return 0
        return min(max(end - self._now, self._min_lease_ttl), self._max_lease_ttl)

    # -- life

    def ready(self) -> bool:
        """Returns True if the keys have been listed at least once."""
        return bool(self._state.serial)

    @property
    def own_zones(self) -> Sequence[bytes]:  # type: ignore[override]
        """Returns the zones of the plugin, without reverse zones."""
        return tuple(zone for zone in self._zones if not is_reverse(names.to_text(zone)))

    def start(self) -> None:
        """Sets the metrics."""
        self.tick()

    def tick(self) -> None:
        """Reads the clock, and sets the metrics of the source."""
        self._now = int(self._environment.clock())
        state, counters, path = self._state, self._environment.counters, self.options.source.prefix
        counters.set(counters.cell(CONNECTED, path), float(not state.problem))
        counters.set(counters.cell(KEYS, path), float(state.keys))
        counters.set(counters.cell(INVALID, path), float(state.invalid))

    # -- queries

    def name_independent(self, zone: bytes) -> bool:
        """Returns True if the zone has no name in common with this plugin's zones."""
        return not any(names.is_within(zone, own) or names.is_within(own, zone) for own in self._zones)

    def join_fast_path(self, fast_path: FastPath) -> bool:
        """Excludes the plugin's zones from the fast path (forwarding without the plugin chain), and returns True."""
        fast_path.zones += tuple(self._zones)
        return True

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers queries for names in the plugin's zones. Other queries go to the next plugin."""
        zone = next((zone for zone in self._zones if names.is_within(query.key, zone)), None)
        if zone is None:
            return following(query)
        if not self._state.serial:
            error = f"plugin/etcd: {self._state.problem or 'no keys were listed yet'}"
            return self._negative(query, zone, Rcode.SERVFAIL, error)
        return steps(self._answer(query, zone, following))

    def _answer(self, query: Query, zone: bytes, following: Following) -> Generator[Answer, Reply, Reply]:
        lookup = self._lookup(zone)
        made = Records(query, zone, lookup)
        try:
            answer = yield from self._records(query, zone, made)
        except NoSuchNameError:
            if any(names.is_within(query.key, one) for one in self._fallthrough):
                return (yield following(query))
            return self._negative(query, zone, Rcode.NXDOMAIN)
        except LookupFailedError as error:
            return self._negative(query, zone, Rcode.SERVFAIL, f"plugin/etcd: {error}")
        if not answer:
            return self._negative(query, zone, Rcode.NOERROR)
        is_soa = answer[0].rtype == Type.SOA
        return Reply(
            flags=query.reply_flags | AA | (TC if made.is_truncated else 0),
            answer=tuple(answer),
            additional=tuple(made.additional),
            lifetime=LEASE_LIFETIME if lookup.rests_on_lease else NEGATIVE_LIFETIME if is_soa else UNTIL_CHANGED,
        )

    def _records(self, query: Query, zone: bytes, made: Records) -> Generator[Answer, Reply, list[Record]]:
        """Returns the records of the answer section. Raises NoSuchNameError and LookupFailedError."""
        match query.rtype:
            case Type.A | Type.AAAA | Type.TXT:
                return (yield from made.chain(query.rtype))
            case Type.CNAME:
                return made.canonical()
            case Type.PTR:
                return made.pointers()
            case Type.MX:
                return (yield from made.exchanges())
            case Type.SRV:
                return (yield from made.services())
            case Type.SOA:
                return [self._soa(zone)]
            case Type.NS if query.key == zone:
                return made.name_servers()
        made.exists()
        return []

    def _negative(self, query: Query, zone: bytes, rcode: int, error: str = "") -> Reply:
        lifetime = 0.0 if rcode == Rcode.SERVFAIL else NEGATIVE_LIFETIME
        return Reply(
            rcode=rcode,
            flags=query.reply_flags | AA,
            authority=(self._soa(zone),),
            error=error,
            lifetime=lifetime,
        )

    def _soa(self, zone: bytes) -> Record:
        server, rname = b"\2ns\3dns" + zone, b"\x0ahostmaster" + zone
        serial = (self._state.serial % 2**32).to_bytes(4, "big")
        return Record(zone, Type.SOA, TTL, server + rname + serial + _SOA_TIMES)
