"""The `file` plugin: authoritative answers from zone files (RFC 1034 §4.3.2, docs/behaviour/plugins.md#file).

The control process reads the files. This module gets each zone in the form that `content.encode` makes. A reply has its
zone as a dependency, so the answer table keeps it until the zone changes.
"""

from __future__ import annotations

from collections.abc import Callable

from svcdns.cluster.changes import Dependency
from svcdns.corefile.zones import is_reverse
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.settings import Settings
from svcdns.plugin_api.zone_transfer import ZoneOffer
from svcdns.plugins.file.options import Options, ZoneFile
from svcdns.wire import names
from svcdns.zones.content import PORTION, data_key, error_key
from svcdns.zones.metrics import REFUSED
from svcdns.zones.zone import Zone
from svcdns.zones.zone_set import WILDCARD, ZoneSet


class File(Plugin):
    """Answers queries in the zones of one server block."""

    name = "file"
    metadata_names = ("zone",)

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with a warning for each word of the Corefile that has no effect."""
        return Settings(warnings=tuple(line for file in options.files for line in file.warnings))

    def __init__(self, options: Options, environment: Environment) -> None:
        """Takes the zones that the control process has sent, and registers for the zones that it sends later."""
        self._environment, self._started = environment, False
        self._files: dict[bytes, ZoneFile] = {}
        self._zones = ZoneSet(self.name)
        self._unused: list[object] = []
        self._refused: dict[tuple[str, str], bool] = {}
        # The last directive for a zone counts, as in CoreDNS.
        served = {names.from_text(zone).lower(): (file, zone) for file in options.files for zone in file.zones}
        for apex, (file, zone) in served.items():
            self._serve(apex, file, zone)
        self.own_zones = tuple(names.from_text(zone).lower() for _, zone in served.values() if not is_reverse(zone))

    def _serve(self, apex: bytes, file: ZoneFile, zone: str) -> None:
        self._files[apex] = file
        self._zones.put(apex, None)

        def load(content: bytes) -> None:
            self._unused += self._zones.put(apex, Zone(apex, content, self._environment.poll_sockets))

        def loaded(content: bytes) -> None:
            load(content)
            self._environment.invalidate((_dependency(apex),))
            self._notify(apex)
            self._free()

        def refused(reason: bytes) -> None:
            self._refused[file.path, zone] = bool(reason)

        self._follow(data_key(file.path, zone), load, loaded)
        self._follow(error_key(file.path, zone), refused, refused)

    def _follow(self, key: str, now: Callable[[bytes], None], later: Callable[[bytes], None]) -> None:
        content = self._environment.data("file", key)
        if content is not None:
            now(content)
        self._environment.on_data("file", key, later)

    def _free(self) -> None:
        """Frees the earlier content of a zone in steps, so that a large zone does not delay queries."""
        while self._unused:
            del self._unused[-PORTION:]
            self._environment.poll_sockets()

    def start(self) -> None:
        """Sends NOTIFY messages for the zones that are already loaded."""
        self._started = True
        for apex in self._zones.loaded:
            self._notify(apex)
        self.tick()

    def tick(self) -> None:
        """Sets the metric of unusable zone files: 1 for each file that cannot be used, otherwise 0."""
        counters = self._environment.counters
        for labels, refused in self._refused.items():
            counters.set(counters.cell(REFUSED, *labels), float(refused))

    def stop(self) -> None:
        """Sets the metric of unusable zone files to 0."""
        counters = self._environment.counters
        for labels in self._refused:
            counters.set(counters.cell(REFUSED, *labels), 0.0)

    def _notify(self, apex: bytes) -> None:
        if self._started and self._environment.first:
            for transfer in self._environment.peers("transfer"):
                transfer.notify(apex)

    def transfer(self, zone: bytes, serial: int) -> ZoneOffer | None:
        """Returns the zone's records for the plugin `transfer`; see `plugin_api.zone_transfer`."""
        return self._zones.offer(zone, serial)

    def metadata(self, query: Query, label: str) -> str:
        """Returns the wildcard name whose records answer the query, for the label `zone/wildcard`."""
        return self._zones.wildcard(query) if label == WILDCARD else ""

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers queries for names in the plugin's zones.

        Queries for other names go to the next plugin, or get REFUSED if there is none. If a name does not exist and the
        option `fallthrough` covers it, the query also goes to the next plugin.
        """
        apex = self._zones.find(query.key, query.rtype)
        if apex is None:
            return ZoneSet.outside(self, query, following, self._environment.peers(""))
        self._environment.depends_on(_dependency(apex))
        answer, may_fall_through = self._zones.answer(query, apex)
        if may_fall_through:
            fallthrough = self._files[apex].fallthrough
            if any(names.is_within(query.key, names.from_text(text).lower()) for text in fallthrough):
                return following(query)
        return answer


def _dependency(apex: bytes) -> Dependency:
    return ("file", names.to_text(apex))
