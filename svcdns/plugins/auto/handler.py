"""The `auto` plugin: authoritative answers from zone files that may be added and removed at any time.

The control process reads the files. This module gets the list of zones and the content of each zone. A reply depends on
the list and on its zone, so the answer table keeps it until one of them changes. See docs/behaviour/plugins.md#auto.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from svcdns.cluster.changes import Dependency
from svcdns.corefile.zones import is_reverse
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.settings import Settings
from svcdns.plugin_api.zone_transfer import ZoneOffer
from svcdns.plugins.auto.options import Directory, Options
from svcdns.plugins.auto.zone_list import ListedZone, content_key, decode
from svcdns.wire import names
from svcdns.zones.metrics import REFUSED
from svcdns.zones.zone import Zone
from svcdns.zones.zone_set import WILDCARD, ZoneSet


class _Folder:
    """The zones of one folder."""

    def __init__(self, directory: Directory, environment: Environment) -> None:
        self.key = directory.key
        self.origins = [names.from_text(zone).lower() for zone in directory.zones]
        self.zones = ZoneSet("auto")
        self.refused: dict[tuple[str, str], bool] = {}
        self._environment = environment
        self._followed: set[str] = set()
        self._present: set[bytes] = set()
        """The zones of the list that have content. The content of a new zone may arrive after the list."""
        self.changed: list[bytes] = []
        """The zones whose content is new since the last NOTIFY messages."""
        payload = environment.data("auto", self.key)
        if payload is not None:
            self._list(decode(payload))
        environment.on_data("auto", self.key, self._relisted)

    @property
    def dependency(self) -> Dependency:
        """Returns the dependency of replies that were made with the list of zones."""
        return ("auto", self.key)

    def dependency_on(self, apex: bytes) -> Dependency:
        """Returns the dependency that replies from one zone have."""
        return ("auto", content_key(self.key, names.to_text(apex)))

    def _relisted(self, payload: bytes) -> None:
        self._list(decode(payload))
        self._environment.invalidate((self.dependency,))

    def _list(self, zones: Iterable[ListedZone]) -> None:
        listed = {names.from_text(one.zone): one for one in zones}
        self.refused = dict.fromkeys(self.refused, False)
        self.refused |= {(one.path, one.zone): one.is_refused for one in listed.values()}
        self._present = {apex for apex, one in listed.items() if one.is_loaded}
        for apex in set(self.zones) - self._present:
            self.zones.remove(apex)
        for apex in sorted(self._present - set(self.zones)):
            content = self._environment.data("auto", content_key(self.key, listed[apex].zone))
            if content:
                self._load(apex, content)
            self._follow(apex, listed[apex].zone)

    def _load(self, apex: bytes, content: bytes) -> None:
        self.zones.put(apex, Zone(apex, content, self._environment.poll_sockets))
        self.changed.append(apex)

    def _follow(self, apex: bytes, zone: str) -> None:
        def loaded(content: bytes) -> None:
            if content and apex in self._present:
                changed = self.dependency_on(apex) if apex in self.zones else self.dependency
                self._load(apex, content)
                self._environment.invalidate((changed,))

        key = content_key(self.key, zone)
        if key not in self._followed:
            self._followed.add(key)
            self._environment.on_data("auto", key, loaded)

    def covers(self, key: bytes) -> bool:
        """Returns True if the directive covers the name `key`."""
        return any(names.is_within(key, origin) for origin in self.origins)


class Auto(Plugin):
    """Answers queries in the zones of the folders of one server block."""

    name = "auto"
    metadata_names = ("zone",)

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with a warning for each word of the Corefile that has no effect."""
        return Settings(warnings=tuple(line for one in options.directories for line in one.warnings))

    def __init__(self, options: Options, environment: Environment) -> None:
        """Takes the zones that the control process has sent, and registers for their changes."""
        self._environment = environment
        self._folders = [_Folder(directory, environment) for directory in options.directories]

    @property
    def counted_zones(self) -> Collection[bytes]:  # type: ignore[override]
        """Returns the zones that have content.

        As in CoreDNS, each has its own label `zone` in the metrics of queries.
        """
        return [apex for folder in self._folders for apex in folder.zones]

    @property
    def own_zones(self) -> Sequence[bytes]:  # type: ignore[override]
        """Returns the zones that have content, without reverse zones."""
        return [apex for apex in self.counted_zones if not is_reverse(names.to_text(apex))]

    def start(self) -> None:
        """Sends NOTIFY messages for the zones that are already loaded."""
        self.tick()

    def tick(self) -> None:
        """Sends NOTIFY messages for changed zones, and sets the metric of unusable zone files."""
        counters = self._environment.counters
        transfers = self._environment.peers("transfer") if self._environment.first else ()
        for folder in self._folders:
            for labels, refused in folder.refused.items():
                counters.set(counters.cell(REFUSED, *labels), float(refused))
            changed, folder.changed = folder.changed, []
            for apex in changed:
                for transfer in transfers:
                    transfer.notify(apex)

    def stop(self) -> None:
        """Sets the metric of unusable zone files to 0. After a reload, the new plugin sets it for its own files."""
        counters = self._environment.counters
        for folder in self._folders:
            for labels in folder.refused:
                counters.set(counters.cell(REFUSED, *labels), 0.0)

    def transfer(self, zone: bytes, serial: int) -> ZoneOffer | None:
        """Returns the zone's records for the plugin `transfer`; see `plugin_api.zone_transfer`."""
        offers = (folder.zones.offer(zone, serial) for folder in self._folders)
        return next((offer for offer in offers if offer is not None), None)

    def metadata(self, query: Query, label: str) -> str:
        """Returns the wildcard name whose records answer the query, for the label `zone/wildcard`."""
        found = (folder.zones.wildcard(query) for folder in self._folders if folder.covers(query.key))
        return next(filter(None, found), "") if label == WILDCARD else ""

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers queries for names in the plugin's zones.

        Queries for other names go to the next plugin. If there is no next plugin, a name that the directive covers gets
        REFUSED.
        """
        folders = [folder for folder in self._folders if folder.covers(query.key)]
        if not folders:
            return following(query)
        found: tuple[bytes, _Folder] | None = None
        for folder in folders:
            self._environment.depends_on(folder.dependency)
            apex = folder.zones.find(query.key, query.rtype)
            if apex is not None and (found is None or len(apex) > len(found[0])):
                found = apex, folder
        if found is None:
            return ZoneSet.outside(self, query, following, self._environment.peers(""))
        apex, folder = found
        self._environment.depends_on(folder.dependency_on(apex))
        return folder.zones.answer(query, apex)[0]
