"""Explains the answers for a name that a client queries: each query of the search path, its plugins, and the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from svcdns.cluster.index import Index
from svcdns.control.cache_pages import CachedReply
from svcdns.control.status import Cluster as ClusterStatus
from svcdns.control.status import Upstream
from svcdns.inspection.cluster_objects import Cluster, Reason, has_data
from svcdns.inspection.offline import CLIENT, OfflineServer, Trace
from svcdns.inspection.reading import Reading
from svcdns.inspection.reasons import reason
from svcdns.plugin_api.query import Client
from svcdns.plugins.kubernetes.options import Options as KubernetesOptions
from svcdns.wire import names
from svcdns.wire.codes import Rcode, rcode_text, type_text
from svcdns.wire.tool_messages import record_line

FORMAT: Final = 1


class ExplainedStep(msgspec.Struct, frozen=True):
    """A plugin that a query reached, with the name and type of the query there.

    `place` is FILE:LINE of its directive. `self_query` is True for a query that a plugin sent to this server.
    """

    plugin: str
    place: str
    name: str
    type: str
    self_query: bool


class ExplainedQuery(msgspec.Struct, frozen=True):
    """One query and its reply. `cause` is the reason for the reply, in one sentence."""

    name: str
    type: str
    zone: str
    rcode: str
    records: list[str]
    cause: str
    near: list[str]
    objects: list[str]
    steps: list[ExplainedStep]

    @property
    def has_data(self) -> bool:
        """Returns True if the records are more than a chain of CNAME records, or if CNAME was queried."""
        types = [record.split(" ", 4)[3] for record in self.records]
        return any(one != "CNAME" or self.type in ("CNAME", "ANY") for one in types)


class RunningState(msgspec.Struct, frozen=True):
    """What a running server has stored for the explained queries, with its upstreams and its cluster views."""

    stored: list[CachedReply]
    upstreams: list[Upstream]
    clusters: list[ClusterStatus]


class Explanation(msgspec.Struct, frozen=True):
    """The explanation for a name.

    `cause` is the reason for the final answer. `queries` are in the order of a client.
    """

    format: int
    name: str
    client: str
    search: list[str]
    cause: str
    near: list[str]
    queries: list[ExplainedQuery]
    server: list[str] = []
    """Lines about what a running server answered or has stored; empty if no server was queried."""
    running: RunningState | None = None
    """The state of the running server whose socket was given, otherwise null."""


def schema() -> dict[str, Any]:
    """Returns the JSON schema of an explanation."""
    return msgspec.json.schema(Explanation)


async def explain(
    server: OfflineServer, reading: Reading, candidates: Sequence[str], rtype: int, address: str, search: Sequence[str]
) -> Explanation:
    """Sends queries for the candidates in order, until one has records, and explains each reply.

    `candidates` has absolute names. `address` is the address of the client. `search` has the search domains from which
    the candidates were made.
    """
    client = msgspec.structs.replace(CLIENT, address=address, family=2 if ":" in address else 1)
    out: list[ExplainedQuery] = []
    reasons: list[tuple[Trace, Reason]] = []
    for candidate in candidates:
        trace = await _asked(server, candidate, rtype, client)
        why = reason(trace, reading, _cluster(server, reading, trace))
        reasons.append((trace, why))
        out.append(_explained(trace, why, reading))
        if trace.reply.answer or trace.reply.rcode not in (Rcode.NOERROR, Rcode.NXDOMAIN):
            break
    cause, near = _overall(reasons, search)
    if cause.startswith("'acl'"):  # a resolver adds search domains: the first line has the name that the user typed
        cause = cause.replace(f" for {out[-1].name} ", f" for {min(candidates, key=len)} ")
    return Explanation(FORMAT, candidates[-1], address, list(search), cause, list(near), out)


async def _asked(server: OfflineServer, name: str, rtype: int, client: Client) -> Trace:
    return await server.ask(names.from_text(name), rtype, client)


def _cluster(server: OfflineServer, reading: Reading, trace: Trace) -> Cluster | None:
    """Returns the options of `kubernetes` in the server block that answered, with the index of its cluster."""
    if trace.block < 0:
        return None
    options = reading.plans[trace.block].options.get("kubernetes")
    if not isinstance(options, KubernetesOptions):
        return None
    index: Index = server.index(options.watch)
    return Cluster(options, index)


def _overall(reasons: Sequence[tuple[Trace, Reason]], search: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Returns the cause for the first line, and the most similar names.

    If a query reached an object of the cluster or a name that exists, that query has the cause.
    """
    trace, why = reasons[-1]
    if trace.reply.answer and not has_data(trace.reply.answer, trace.rtype):
        return why.cause, ()
    if trace.reply.answer:
        misses = len(reasons) - 1
        if misses and search:
            text = f"found after {misses} search-path quer{'ies' if misses > 1 else 'y'}: {why.cause}"
            return text, ()
        return why.cause, ()
    if len(reasons) == 1:
        return why.cause, why.near
    of_object = next((reason for _, reason in reasons if reason.objects), None)
    if of_object is not None:
        return of_object.cause, of_object.near
    if any(one.reply.rcode == Rcode.NOERROR for one, _ in reasons):
        exists = next(reason for one, reason in reasons if one.reply.rcode == Rcode.NOERROR)
        return exists.cause, exists.near
    best = _meant(reasons)
    if best is why and trace.reply.rcode != Rcode.NXDOMAIN:
        return why.cause, why.near
    return f"no name of the search path exists: {best.cause}", best.near


def _meant(reasons: Sequence[tuple[Trace, Reason]]) -> Reason:
    """Returns the reason for the name that the client most probably meant.

    This name is `SERVICE` in its own namespace, `SERVICE.NAMESPACE`, `SERVICE.NAMESPACE.svc`, or else the absolute
    name.
    """
    whole, reason_of_whole = min(reasons, key=lambda one: len(one[0].name))
    labels = names.labels_of(whole.name)
    if len(reasons) < 4 or len(labels) > 3 or (len(labels) == 3 and labels[-1].lower() != b"svc"):
        return reason_of_whole
    by_length = sorted((one for one in reasons if one[0] is not whole), key=lambda one: -len(one[0].name))
    meant = by_length[len(labels) - 1][1]
    return meant if meant.near or len(labels) != 2 else reason_of_whole


def _explained(trace: Trace, why: Reason, reading: Reading) -> ExplainedQuery:
    steps = []
    for step in trace.steps:
        place = ""
        if trace.block >= 0:
            directives = reading.plans[trace.block].block(step.plugin).directives
            place = f"{directives[0].position.file}:{directives[0].position.line}" if directives else ""
        steps.append(ExplainedStep(step.plugin, place, names.to_text(step.name), type_text(step.rtype), step.depth > 0))
    return ExplainedQuery(
        names.to_text(trace.name),
        type_text(trace.rtype),
        trace.zone,
        "dropped" if trace.reply.dropped else rcode_text(trace.reply.rcode),
        [record_line(record.owner, record.ttl, record.rtype, record.rdata) for record in trace.reply.answer],
        why.cause,
        list(why.near),
        [*why.objects, *(f"note: {note}" for note in why.notes)],
        steps,
    )
