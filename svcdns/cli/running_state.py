"""The state of a running server, for `svcdns explain --server PATH`: the data for answers, and stored replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from svcdns import plugins
from svcdns.chain.plan import plan
from svcdns.cli.errors import CannotRun
from svcdns.cli.server_socket import ask, octets
from svcdns.cluster.changes import Begin, Complete, EncodedPut
from svcdns.cluster.index import Index
from svcdns.control.cache_pages import CachedReply, CacheList
from svcdns.control.plugin_data import DataKey
from svcdns.control.server_state import FORMAT, ServerState, ViewState
from svcdns.control.status import Cluster, Status, Upstream
from svcdns.errors import UNDECODABLE
from svcdns.inspection.explanation import ExplainedQuery, Explanation, RunningState
from svcdns.inspection.reading import Reading


@dataclass(frozen=True, slots=True)
class Fetched:
    """The Corefile, the indexes by encoded watch options, and the data of plugins of a running server."""

    reading: Reading
    indexes: Mapping[bytes, Index]
    data: Mapping[DataKey, bytes]


def fetched(path: str) -> Fetched:
    """Returns the state of the server with the socket `path`. Raises CannotRun."""
    try:
        state = msgspec.msgpack.decode(octets(path, "state", {}), type=ServerState)
    except UNDECODABLE as failure:
        raise CannotRun(f"{path}: the state of the server cannot be read; it may have another version") from failure
    if state.format != FORMAT:
        raise CannotRun(f"{path}: the server has version {state.version}, whose state this version cannot read")
    directives = {directive.name.text for block in state.corefile.blocks for directive in block.directives}
    plans = plan(state.corefile, plugins.known(directives)[0], plugins.load)
    reading = Reading(state.corefile.path, state.corefile, plans, state.hosts)
    data = {DataKey(plugin, key): payload for plugin, key, payload in state.data}
    return Fetched(reading, {view.watch: _index(view) for view in state.views}, data)


def _index(view: ViewState) -> Index:
    index = Index(view.kinds)
    for kind in view.kinds:
        index.apply(Begin(kind))
        for encoded in view.objects[kind]:
            index.apply(EncodedPut(msgspec.Raw(encoded)))
        if kind in view.complete:
            index.apply(Complete(kind))
    index.apply(view.serials)
    return index


def described(path: str, found: Explanation, stale_after: float) -> Explanation:
    """Adds what the server has stored for the queries, its upstreams and its cluster views. Raises CannotRun.

    A cluster view counts as old if its age in seconds is above `stale_after`.
    """
    status = ask(path, "status", {}, Status)
    stored: list[CachedReply] = []
    lines: list[str] = []
    for query in found.queries:
        rows = ask(path, "cache", {"name": query.name, "type": query.type}, CacheList).replies
        stored += rows
        lines += [_stored(row) for row in rows] or [f"{query.name} {query.type}: no stored reply"]
    plugins_used = {step.plugin for query in found.queries for step in query.steps}
    upstreams = status.upstreams if plugins_used & {"forward", "grpc"} else []
    clusters = status.clusters if plugins_used & {"kubernetes", "k8s_external"} else []
    lines += [_upstream(one) for one in upstreams] + [_cluster(one) for one in clusters]
    return msgspec.structs.replace(
        found,
        cause=_cause(found.queries, stored, clusters) or found.cause + _age(found, clusters, stale_after),
        server=lines,
        running=RunningState(stored, upstreams, clusters),
    )


def _age(found: Explanation, clusters: Sequence[Cluster], stale_after: float) -> str:
    """Returns words about the age of the cluster view, if it is old and the cause is from the cluster."""
    makers = [query.steps[-1].plugin for query in found.queries if query.steps and query.cause in found.cause]
    old = next((one for one in clusters if one.age > stale_after), None)
    if old is None or not {"kubernetes", "k8s_external"} & set(makers):
        return ""
    return f" (the state is {old.age:.0f} s old: the server has no contact with {old.source})"


def _cause(queries: Sequence[ExplainedQuery], stored: Sequence[CachedReply], clusters: Sequence[Cluster]) -> str:
    """Returns the reason why the server's answers may differ from its data, or an empty text."""
    last = queries[-1]
    for one in clusters:
        if not one.complete:
            return f"the server has not read the cluster ({one.source}) yet"
    for row in stored:
        is_last = (row.name, row.type) == (last.name.lower(), last.type)
        if is_last and row.store != "table" and row.rcode != last.rcode and row.expires_in is not None:
            return (
                f"the server's cache has {row.rcode} for {row.name} {row.type} for {row.expires_in:.0f} s more, but a "
                f"new query gives {last.rcode}; 'svcdns cache flush {row.name}' removes it"
            )
    return ""


def _stored(row: CachedReply) -> str:
    until = "until its data change" if row.expires_in is None else f"for {max(0.0, row.expires_in):.0f} s more"
    where = "the answer table" if row.store == "table" else f"'{row.store}'"
    replies = "a reply" if row.count == 1 else f"{row.count} replies"
    if row.expires_in is not None and row.expires_in <= 0:
        until = "although it has expired"
    return f"{row.name} {row.type}: {where} of {', '.join(row.workers)} has {replies} with {row.rcode}, {until}"


def _upstream(one: Upstream) -> str:
    if one.open_circuits:
        workers = f"{one.open_circuits} worker{'' if one.open_circuits == 1 else 's'}"
        state = f"gets no queries in {workers}, because it does not reply"
    elif one.queries:
        state = "replies"
    else:
        state = "has not replied yet" if one.failed_checks else "was not needed yet"
    checks = f", {one.failed_checks} failed checks" if one.failed_checks else ""
    return f"upstream {one.address} {state}; {one.queries} queries, mean {one.mean * 1000:.1f} ms{checks}"


def _cluster(one: Cluster) -> str:
    known = "all objects are known" if one.complete else "not all objects are known yet"
    return f"cluster {one.source}: {known}, confirmed {one.age:.0f} s ago"
