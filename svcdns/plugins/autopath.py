"""`autopath`: tries a client's search path on the server, so that the client sends one query instead of several.

If a query name is below the first element of the search path, the plugin tries the name with each element of the path.
Each attempt goes through the rest of the plugin chain. The first reply that is not NXDOMAIN is the answer. With
`@kubernetes`, the client class is the namespace of the client's Pod. See docs/behaviour/plugins.md#autopath.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from svcdns.cluster.changes import Dependency
from svcdns.corefile import arguments
from svcdns.corefile.blocks import Position
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.contract import Following, Plugin, then
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, CacheScope, Reply, joined, rcode_only
from svcdns.plugin_api.settings import Settings
from svcdns.telemetry.counters import Family, MetricKind
from svcdns.wire import names
from svcdns.wire.codes import Rcode, Type
from svcdns.wire.errors import NameTextError
from svcdns.wire.record import Record

RESOLV_CONF: Final = "/etc/resolv.conf"
_SVC: Final = b"\x03svc"


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `autopath`. Zones are text. `path` is the resolv.conf(5) file with the search path.

    If `source` names a plugin, the search path of this plugin comes before that of the file.
    """

    position: Position = field(compare=False)
    zones: tuple[str, ...]
    path: str
    source: str = ""
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's last `autopath` directive. Raises CorefileError."""
    directive = block.directives[-1]
    for each in block.directives:
        arguments.no_body(each)
        if not each.arguments:
            raise CorefileError(each.position, "no resolv-conf specified; a file or @kubernetes was expected")
    *zones, last = directive.arguments
    origins, ignored = arguments.zones(zones, block.zones), arguments.ignored_zones(zones)
    if not last.text.startswith("@"):
        return Options(last.position, origins, last.text, warnings=ignored)
    source = last.text[1:]
    if source != "kubernetes" and any(other.name.text == source for other in block.others):
        raise CorefileError(
            last.position, f"'{source}' does not know the search paths of clients; @kubernetes or a file was expected"
        )
    return Options(last.position, origins, RESOLV_CONF, source, ignored)


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:  # noqa: ARG001 - read once, at set-up
    """Reads the search path from the resolv.conf file, and returns it as concatenated wire names.

    Raises CorefileError if the file cannot be read, unless a plugin provides the search path.
    """
    try:
        text = Path(options.path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        if options.source:
            return {options.path: b""}
        raise CorefileError(
            options.position, f"failed to read '{options.path}': {(error.strerror or '').lower()}"
        ) from error
    return {options.path: b"".join(search_path(text))}


def search_path(text: str) -> list[bytes]:
    """Returns the search path in the text of a resolv.conf(5) file, as wire names in lower case.

    If there are several `search` or `domain` lines, the last one is used.
    """
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
    "coredns_autopath_success_total",
    MetricKind.COUNTER,
    "Queries answered by an element of the search path.",
    ("server",),
)


class Autopath(Plugin):
    """Tries the search path on the server, for queries of one server block."""

    name = "autopath"
    states_reuse = True
    client_class_dependencies = frozenset({"pod"})

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with a warning for each word of the Corefile that has no effect."""
        return Settings(warnings=options.warnings)

    def __init__(self, options: Options, environment: Environment) -> None:
        """Takes the search path that the control process has read from the resolv.conf file."""
        self._source, self._environment, self._counters = options.source, environment, environment.counters
        self._zones = tuple(names.from_text(zone).lower() for zone in options.zones)
        self._elements = (*_names(environment.data("autopath", options.path) or b""), names.ROOT)
        self._clusters: tuple[Any, ...] = ()

    def start(self) -> None:
        """Finds the plugin that the option `@PLUGIN` names, such as *kubernetes*."""
        self._clusters = self._environment.peers(self._source) if self._source else ()

    def client_class(self, address: str) -> str:
        """Returns the namespace of the Pod with that address, or an empty text if there is no such Pod."""
        return " ".join(cluster.pod_namespace(address) for cluster in self._clusters)

    def handle(self, query: Query, following: Following) -> Answer:
        """Tries the search path if the query name is below the first element of the path.

        Other queries go to the following plugins.
        """
        key = query.key
        if not any(names.is_within(key, zone) for zone in self._zones):
            return following(query)
        if not self._source:
            return (
                self._try(query, following, self._elements)
                if names.is_within(key, self._elements[0])
                else following(query)
            )
        for cluster in self._clusters:
            zone = cluster.search_zone(key)
            if zone is not None and (namespace := namespace_of(key, zone)):
                return self._for_pod(query, following, cluster.pod_namespace(query.client.address), namespace, zone)
        return following(query)

    def _for_pod(self, query: Query, following: Following, own: str, namespace: str, zone: bytes) -> Answer:
        """Answers a query for a name in the namespace `namespace` from a Pod in the namespace `own`.

        Tries the search path only if these are the same namespace.
        """
        if own == namespace:
            first = names.from_labels([namespace.encode("latin-1")])[:-1] + _SVC + zone
            answer = self._try(query, following, (first, _SVC + zone, zone, *self._elements))
        else:
            answer = following(query)
        pod: Dependency = ("pod", query.client.address)
        return then(answer, lambda reply: _of_client_class(reply, pod))

    def _try(self, query: Query, following: Following, elements: tuple[bytes, ...]) -> Answer:
        base = query.name[: len(query.name) - len(elements[0])]
        if not base:
            return rcode_only(Rcode.SERVFAIL, f"{names.to_text(query.name)} is the first element of the search path")
        candidates = [base + element for element in elements if len(base) + len(element) <= names.MAX_NAME]
        return _Search(self._found, query, following, candidates).run(0)

    def _found(self, query: Query, reply: Reply) -> Reply:
        """Counts a search that ended with `reply`, and adds a CNAME record from the query name to the name found."""
        cell = self._counters.cell(SUCCESS, query.server)
        self._counters.add(cell)
        other = next((record for record in reply.answer if record.owner.lower() != query.key), None)
        answer = reply.answer
        if other is not None:
            answer = (Record(query.name, Type.CNAME, other.ttl, other.owner), *answer)
        return msgspec.structs.replace(reply, answer=answer, increments=(*reply.increments, (cell, 1.0)))


class _Search:
    """One search: queries the names in `candidates`, in order, on behalf of one client's query."""

    def __init__(
        self, found: Callable[[Query, Reply], Reply], query: Query, following: Following, candidates: list[bytes]
    ) -> None:
        self._found, self._query, self._following, self._candidates = found, query, following, candidates
        self._replies: list[Reply] = []

    def run(self, start: int) -> Answer:
        """Queries the names in `candidates` from index `start` on, until the search ends. Returns the last reply."""
        for number in range(start, len(self._candidates)):
            answer = self._following(self._query.changed(name=self._candidates[number]))
            if not isinstance(answer, Reply):
                return self._wait(answer, number)
            if self._ends(answer):
                return self._finished(answer)
        return self._finished(None)

    async def _wait(self, answer: Answer, number: int) -> Reply:
        assert not isinstance(answer, Reply)
        reply = await answer
        rest = self._finished(reply) if self._ends(reply) else self.run(number + 1)
        return rest if isinstance(rest, Reply) else await rest

    def _ends(self, reply: Reply) -> bool:
        """Returns True if the search is over: after a dropped query, an error, or a message that is not NXDOMAIN."""
        self._replies.append(reply)
        return reply.dropped or bool(reply.error) or (reply.has_message and reply.rcode != Rcode.NXDOMAIN)

    def _finished(self, last: Reply | None) -> Reply:
        if last is None:
            out, *others = self._replies
        else:
            *others, out = self._replies
            if last.has_message and not last.dropped:
                out = self._found(self._query, last)
        for reply in others:  # the client does not see the TTLs of these replies
            out = joined(out, msgspec.structs.replace(reply, next_second=UNTIL_CHANGED))
        return out


def namespace_of(key: bytes, zone: bytes) -> str:
    """Returns the namespace in a lower-case name of the zone: the label left of `svc.ZONE`.

    Returns an empty text if the name has no such label.
    """
    labels = names.labels_of(key[: len(key) - len(zone)] + names.ROOT)
    return labels[-2].decode("latin-1") if len(labels) > 1 and labels[-1] == b"svc" else ""


def _of_client_class(reply: Reply, pod: Dependency) -> Reply:
    """Returns a copy of the reply that may be reused only for clients of the same client class.

    The Pod is a dependency of the copy.
    """
    return msgspec.structs.replace(
        reply, scope=max(reply.scope, CacheScope.CLIENT_CLASS), dependencies=(*reply.dependencies, pod)
    )


def _names(content: bytes) -> list[bytes]:
    out, at = [], 0
    while at < len(content):
        name, at = names.read_name(content, at)
        out.append(name)
    return out


PLUGIN: Final = Autopath
