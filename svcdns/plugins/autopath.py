"""`autopath`: walks the search path of a client, so that it need not (docs/behaviour/plugins.md#autopath).

A name that ends in the first element of the search path is tried with each element through the rest of the chain; the first reply that
is not NXDOMAIN is the answer. With `@kubernetes` the path begins with the namespace of the Pod that asks: that is the client's class. A
reply rests on everything that was asked for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from svcdns.cluster.changes import Dependency
from svcdns.corefile import arguments
from svcdns.corefile.blocks import Position
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.contract import Following, joined, then
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, CacheScope, Reply, rcode_only
from svcdns.telemetry.counters import Family, MetricKind
from svcdns.wire import names
from svcdns.wire.codes import Rcode, Type
from svcdns.wire.errors import NameTextError
from svcdns.wire.record import Record

RESOLV_CONF: Final = "/etc/resolv.conf"
_SVC: Final = b"\x03svc"


@dataclass(frozen=True, slots=True)
class Options:
    """Zones are text. The search path is that of the file at `path`; behind the path that the plugin `source` knows, if one is named."""

    position: Position
    zones: tuple[str, ...]
    path: str
    source: str = ""


def parse(block: Block) -> Options:
    """The options of the block's last `autopath` directive. Raises CorefileError."""
    directive = block.directives[-1]
    for each in block.directives:
        arguments.no_body(each)
        if not each.arguments:
            raise CorefileError(each.position, "no resolv-conf specified; a file or @kubernetes was expected")
    *zones, last = directive.arguments
    origins = arguments.zones(zones, block.zones)
    if not last.text.startswith("@"):
        return Options(last.position, origins, last.text)
    source = last.text[1:]
    if source != "kubernetes" and any(other.name.text == source for other in block.others):
        raise CorefileError(last.position, f"'{source}' does not know the search paths of clients; @kubernetes or a file was expected")
    return Options(last.position, origins, RESOLV_CONF, source)


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:  # noqa: ARG001 - read once, at set-up
    """The search path of the file, its elements as wire names behind each other. Raises CorefileError if a file named cannot be read."""
    try:
        text = Path(options.path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        if options.source:
            return {options.path: b""}
        raise CorefileError(options.position, f"failed to read '{options.path}': {(error.strerror or '').lower()}") from error
    return {options.path: b"".join(search_path(text))}


def search_path(text: str) -> list[bytes]:
    """The lowered elements of the last `search` or `domain` line of a file in the form of resolv.conf."""
    found: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if words and line[0] not in ";#" and words[0] in ("search", "domain"):
            found = words[1:] if words[0] == "search" else words[1:2]
    out = []
    for word in found:
        try:
            out.append(names.from_text(word).lower())
        except NameTextError:
            continue
    return out


SUCCESS: Final = Family(
    "coredns_autopath_success_total", MetricKind.COUNTER, "Questions that a name of the search path answered.", ("server",)
)


class Autopath:
    """Walks search paths for one block."""

    name = "autopath"
    client_class_dependencies = frozenset({"pod"})

    def __init__(self, options: Options, environment: Environment) -> None:
        """The file's search path comes from control."""
        self._source, self._environment, self._counters = options.source, environment, environment.counters
        self._zones = tuple(names.from_text(zone).lower() for zone in options.zones)
        self._elements = (*_names(environment.data("autopath", options.path) or b""), names.ROOT)
        self._clusters: tuple[Any, ...] = ()

    def start(self) -> None:
        """Finds the plugin that knows the clients."""
        self._clusters = self._environment.peers(self._source) if self._source else ()

    def client_class(self, address: str) -> str:
        """The namespace of the Pod with that address."""
        return " ".join(cluster.pod_namespace(address) for cluster in self._clusters)

    def handle(self, query: Query, following: Following) -> Answer:
        """Walks where the name ends in the first element of the client's path; asks on for the rest."""
        key = query.key
        if not any(names.is_within(key, zone) for zone in self._zones):
            return following(query)
        if not self._source:
            return self._try(query, following, self._elements) if names.is_within(key, self._elements[0]) else following(query)
        for cluster in self._clusters:
            zone = cluster.search_zone(key)
            if zone is not None and (namespace := namespace_of(key, zone)):
                return self._for_pod(query, following, cluster.pod_namespace(query.client.address), namespace, zone)
        return following(query)

    def _for_pod(self, query: Query, following: Following, own: str, asked: str, zone: bytes) -> Answer:
        """The answer to a name below a namespace's services, which depends on whether the client is in that namespace."""
        if own == asked:
            first = names.from_labels([asked.encode("latin-1")])[:-1] + _SVC + zone
            answer = self._try(query, following, (first, _SVC + zone, zone, *self._elements))
        else:
            answer = following(query)
        owner: Dependency = ("pod", query.client.address)
        return then(answer, lambda reply: _as_class(reply, owner))

    def _try(self, query: Query, following: Following, elements: tuple[bytes, ...]) -> Answer:
        base = query.name[: len(query.name) - len(elements[0])]
        if not base:
            return rcode_only(Rcode.SERVFAIL, f"nothing is left of {names.to_text(query.name)} without its search path")
        tries = [base + element for element in elements if len(base) + len(element) <= names.MAX_NAME]
        return _Walk(self, query, following, tries).go(0)

    def found(self, query: Query, reply: Reply) -> Reply:
        """The reply as the answer to the name that was asked for: counted, and with a CNAME to where its records are."""
        cell = self._counters.cell(SUCCESS, query.server)
        self._counters.add(cell)
        other = next((record for record in reply.answer if record.owner.lower() != query.key), None)
        answer = reply.answer
        if other is not None:
            answer = (Record(query.name, Type.CNAME, other.ttl, other.owner), *answer)
        return msgspec.structs.replace(reply, answer=answer, increments=(*reply.increments, (cell, 1.0)))


class _Walk:
    """One question on its way along a search path."""

    def __init__(self, plugin: Autopath, query: Query, following: Following, tries: list[bytes]) -> None:
        self._plugin, self._query, self._following, self._tries = plugin, query, following, tries
        self._replies: list[Reply] = []

    def go(self, at: int) -> Answer:
        """Tries the names from this place on; the reply for the client."""
        for number in range(at, len(self._tries)):
            answer = self._following(self._query.changed(name=self._tries[number]))
            if not isinstance(answer, Reply):
                return self._wait(answer, number)
            if self._ends(answer):
                return self._finished(answer)
        return self._finished(None)

    async def _wait(self, answer: Answer, number: int) -> Reply:
        assert not isinstance(answer, Reply)
        reply = await answer
        rest = self._finished(reply) if self._ends(reply) else self.go(number + 1)
        return rest if isinstance(rest, Reply) else await rest

    def _ends(self, reply: Reply) -> bool:
        """Whether the walk is over: any reply but NXDOMAIN, an error, or silence. A bare rcode is passed over."""
        self._replies.append(reply)
        return reply.dropped or bool(reply.error) or (reply.has_message and reply.rcode != Rcode.NXDOMAIN)

    def _finished(self, last: Reply | None) -> Reply:
        if last is None:
            out, *others = self._replies
        else:
            *others, out = self._replies
            if last.has_message and not last.dropped:
                out = self._plugin.found(self._query, last)
        for reply in others:  # their TTLs are not shown
            out = joined(out, msgspec.structs.replace(reply, next_second=UNTIL_CHANGED))
        return out


def namespace_of(key: bytes, zone: bytes) -> str:
    """The label left of `svc.ZONE` in a lowered name of the zone; empty where there is none."""
    labels = names.labels_of(key[: len(key) - len(zone)] + names.ROOT)
    return labels[-2].decode("latin-1") if len(labels) > 1 and labels[-1] == b"svc" else ""


def _as_class(reply: Reply, owner: Dependency) -> Reply:
    return msgspec.structs.replace(reply, scope=max(reply.scope, CacheScope.CLIENT_CLASS), dependencies=(*reply.dependencies, owner))


def _names(content: bytes) -> list[bytes]:
    out, at = [], 0
    while at < len(content):
        name, at = names.read_name(content, at)
        out.append(name)
    return out


PLUGIN: Final = Autopath
