"""Explains in one sentence why a query has its answer, and finds existing names that are similar."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from svcdns.chain.plan import BlockPlan
from svcdns.cluster.changes import Kind
from svcdns.cluster.index import Index
from svcdns.cluster.objects import Port, Service
from svcdns.corefile.blocks import Directive, Position
from svcdns.inspection.offline import Step, Trace
from svcdns.inspection.reading import Reading
from svcdns.plugin_api.networks import packed
from svcdns.plugin_api.query import Query
from svcdns.plugins.acl import Options as AclOptions
from svcdns.plugins.acl import Rule as AclRule
from svcdns.plugins.kubernetes.options import Options as KubernetesOptions
from svcdns.plugins.kubernetes.qname import ClusterName, NoSuchNameError
from svcdns.plugins.kubernetes.qname import parse as parse_cluster_name
from svcdns.plugins.rewrite.options import Options as RewriteOptions
from svcdns.plugins.rewrite.query_rules import QueryDraft
from svcdns.wire import names
from svcdns.wire.codes import ExtendedError, Rcode, Type, rcode_text, type_text
from svcdns.wire.record import Record

NEAR: Final = 3
"""The most names that are proposed."""
_ALIASES: Final = 12
_LIKE: Final = 0.6


@dataclass(frozen=True, slots=True)
class Cluster:
    """The `kubernetes` directive of a query's server block: its options and the index of its cluster."""

    options: KubernetesOptions
    index: Index


@dataclass(slots=True)
class Reason:
    """The reason for an answer. `objects` has lines about the objects of the cluster that led to the answer."""

    cause: str
    near: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def reason(trace: Trace, reading: Reading, cluster: Cluster | None) -> Reason:
    """Returns the reason for the reply of a trace.

    `cluster` is the cluster of the server block, or None if the block has none.
    """
    name = names.to_text(trace.name)
    if trace.block < 0:
        zones = dict.fromkeys(key.zone for plan in reading.plans for key in plan.keys)
        return Reason(f"no server block serves {name}, so it is REFUSED; the blocks serve {' '.join(zones)}")
    plan = reading.plans[trace.block]
    found = _of_maker(trace, plan, cluster)
    found.cause += _block_by_view(trace, reading)
    found.notes += _rewrites(trace, plan)
    if trace.reply.extended == ExtendedError.STALE_ANSWER:
        found.notes.append("the state of the cluster is old: the API server has not confirmed it for long")
    return found


def _block_by_view(trace: Trace, reading: Reading) -> str:
    """Returns the words that say which server block the client gets, if a view decides that; else an empty text."""
    rivals = [plan for plan in reading.plans if any(key.zone == trace.zone for key in plan.keys)]
    if not any(plan.has_view for plan in rivals):
        return ""
    plan = reading.plans[trace.block]
    view = next((one.view.name for one in plan.settings.values() if one.view is not None), "")
    which = f"with the view '{view}'" if view else "without a view"
    return f" ({trace.client.address} gets the server block {which}, {_at(plan.keys[0].position)})"


def _at(position: Position) -> str:
    return f"{position.file}:{position.line}"


def _of_maker(trace: Trace, plan: BlockPlan, cluster: Cluster | None) -> Reason:
    reply, last = trace.reply, [step for step in trace.steps if step.depth == 0][-1:]
    if not last:
        return Reason("the server block has no plugin that answers")
    step = last[0]
    changed = _renamed(trace)
    prefix = "" if changed is None else f"{_rewritten(trace, plan, changed)}, and "
    if step.plugin == "acl":
        return Reason(prefix + _acl(trace, plan, step))
    if step.plugin == "kubernetes" and cluster is not None:
        found = _kubernetes(step, cluster)
        found.cause = prefix + found.cause
        return found
    if step.plugin in ("forward", "cache", "grpc"):
        return Reason(prefix + _forwarded(trace, plan, step))
    where = _place(plan, step.plugin)
    outcome = _outcome(reply.rcode, len(reply.answer), type_text(step.rtype))
    if trace.error and not reply.has_message:
        return Reason(f"{prefix}{outcome} by '{step.plugin}'{where}: {trace.error}")
    return Reason(f"{prefix}{outcome} by '{step.plugin}'{where}")


def _outcome(rcode: int, records: int, rtype: str) -> str:
    if rcode != Rcode.NOERROR:
        return f"answered with {rcode_text(rcode)}"
    if not records:
        return f"answered without records: the name exists, but not with the type {rtype}"
    return f"answered with {records} record{'s' if records > 1 else ''}"


def _place(plan: BlockPlan, plugin: str) -> str:
    directives = plan.block(plugin).directives
    if not directives:
        return ""
    return f" ({_at(directives[0].position)})"


# -- rewrite


def _renamed(trace: Trace) -> Step | None:
    """Returns the first step at which the query has another name or type than the client's query."""
    own = [step for step in trace.steps if step.depth == 0]
    return next((one for one in own if (one.name.lower(), one.rtype) != (trace.name.lower(), trace.rtype)), None)


def _rewritten(trace: Trace, plan: BlockPlan, changed: Step) -> str:
    position = _rewrite_rule(trace, plan)
    where = f" ({_at(position.position)})" if position is not None else ""
    before, after = names.to_text(trace.name), names.to_text(changed.name)
    if before.lower() == after.lower():
        return f"'rewrite'{where} changes the type {type_text(trace.rtype)} to {type_text(changed.rtype)}"
    return f"'rewrite'{where} changes {before} to {after}"


def _rewrite_rule(trace: Trace, plan: BlockPlan) -> Directive | None:
    """Returns the directive of the first rule that changes the query's name or type."""
    options = plan.options.get("rewrite")
    directives = plan.block("rewrite").directives
    if not isinstance(options, RewriteOptions):
        return None
    for directive, rule in zip(directives, options.rules, strict=False):
        query = Query(trace.name, trace.name.lower(), trace.rtype, 1, 0, None, trace.client, lambda _query: trace.reply)
        draft = QueryDraft(query)
        rule.apply(draft)
        if (draft.query.key, draft.query.rtype) != (query.key, query.rtype):
            return directive
    return None


def _rewrites(trace: Trace, plan: BlockPlan) -> Iterator[str]:
    changed = _renamed(trace)
    if changed is not None:
        yield _rewritten(trace, plan, changed)


# -- acl


def _acl(trace: Trace, plan: BlockPlan, step: Step) -> str:
    client, rtype = trace.client.address, type_text(step.rtype)
    what = (
        "drops"
        if trace.reply.dropped
        else "refuses"
        if trace.reply.rcode == Rcode.REFUSED
        else "empties the answer for"
    )
    line = _acl_line(trace, plan, step)
    where = f" ({_at(line.position)})" if line is not None else _place(plan, "acl")
    rule = f" ({' '.join(word.text for word in (line.name, *line.arguments))})" if line is not None else ""
    return f"'acl'{where} {what} {client}{rule} for {names.to_text(step.name)} {rtype}"


def _acl_line(trace: Trace, plan: BlockPlan, step: Step) -> Directive | None:
    """Returns the line of the `acl` directives that decides about the query."""
    options = plan.options.get("acl")
    if not isinstance(options, AclOptions):
        return None
    for directive, rule in zip(plan.block("acl").directives, options.rules, strict=False):
        if any(names.is_within(step.name.lower(), names.from_text(zone).lower()) for zone in rule.zones):
            for line, number in zip(directive.body or (), range(len(rule.policies)), strict=False):
                if _applies(rule, number, trace.client.address, step.rtype):
                    if rule.policies[number].action == "allow":
                        break
                    return line
    return None


def _applies(rule: AclRule, number: int, address: str, rtype: int) -> bool:
    policy = rule.policies[number]
    if policy.types is not None and rtype not in policy.types:
        return False
    if policy.networks is None:
        return True
    client = packed(address)
    return client is not None and any(client in network for network in policy.networks)


# -- forward


def _forwarded(trace: Trace, plan: BlockPlan, step: Step) -> str:
    rules = plan.block("forward").directives
    line = f" ({_at(rules[0].position)})" if rules else ""
    name = names.to_text(step.name)
    if trace.reply.source:
        outcome = _outcome(trace.reply.rcode, len(trace.reply.answer), type_text(step.rtype))
        return f"the upstream {trace.reply.source} {outcome.replace('answered', f'answered {name}', 1)}"
    if trace.reply.rcode == Rcode.SERVFAIL:
        servers = [word.text for word in rules[0].arguments[1:]] if rules else []
        why = trace.error or "no upstream answered"
        others = "" if len(servers) == 1 and servers[0] in why else f"; the upstreams are {' '.join(servers)}"
        return f"no upstream of 'forward'{line} answered for {name}: {why}{others}"
    outcome = _outcome(trace.reply.rcode, len(trace.reply.answer), type_text(step.rtype))
    return f"{outcome} by '{step.plugin}'{_place(plan, step.plugin)}"


# -- kubernetes


def _kubernetes(step: Step, cluster: Cluster) -> Reason:
    zone = _zone(step.name, cluster.options)
    reply = step.reply
    name = names.to_text(step.name)
    if reply is not None and reply.rcode == Rcode.SERVFAIL:
        if not cluster.index.synced:
            return Reason("the objects of the cluster are not known yet, so cluster names are SERVFAIL")
        loop = _alias_loop(step.name, cluster)
        if loop:
            return loop
        return Reason(f"{name} is SERVFAIL: its ExternalName could not be resolved")
    if zone.endswith(("in-addr.arpa.", "ip6.arpa.")):
        return _reverse(step, name)
    below = step.name[: len(step.name) - len(names.from_text(zone))] + b"\0"
    labels = [label.decode("latin-1").lower() for label in names.labels_of(below)]
    try:
        parsed = parse_cluster_name(
            labels, multicluster=zone in cluster.options.multicluster, zonal=cluster.options.zonal
        )
    except NoSuchNameError:
        return _no_form(name, labels, zone, cluster)
    loop = _alias_loop(step.name, cluster)
    if loop is not None and (reply is None or not any(record.rtype == step.rtype for record in reply.answer)):
        return loop
    if reply is not None and reply.rcode == Rcode.NOERROR:
        return _exists(step, name, parsed, cluster)
    return _nonexistent(name, parsed, zone, cluster)


def _zone(name: bytes, options: KubernetesOptions) -> str:
    zones = sorted(options.zones, key=len, reverse=True)
    return next((zone for zone in zones if names.is_within(name.lower(), names.from_text(zone).lower())), ".")


def _reverse(step: Step, name: str) -> Reason:
    if step.reply is None or not step.reply.answer:
        return Reason(f"{name} is the address of no Service and of no named endpoint")
    owners = dict.fromkeys(
        _owner(names.to_text(record.rdata)) for record in step.reply.answer if record.rtype == Type.PTR
    )
    return Reason(f"{name} is the address of {' and '.join(owners) or 'a Service or endpoint'}")


def _owner(target: str) -> str:
    """Returns the words for the object that a PTR record's target names: `NAME.NAMESPACE.svc.ZONE`, or one below it."""
    labels = target.split(".")
    at = labels.index("svc") if "svc" in labels else 0
    if at == 2:
        return f"Service {labels[1]}/{labels[0]}"
    return f"an endpoint of Service {labels[2]}/{labels[1]}" if at == 3 else target


def _no_form(name: str, labels: list[str], zone: str, cluster: Cluster) -> Reason:
    near = _near(".".join(labels[:2]), cluster, zone)
    if labels[-1:] not in (["svc"], ["pod"]):
        inner = labels[:-1] if "svc" not in labels else labels
        hint = f"{'.'.join(inner[:2])}.svc.{zone}" if len(labels) > 1 else ""
        text = f"{name} has no 'svc' before the zone {zone}, so it is no name of a Service"
        return Reason(text, near or ((hint,) if hint else ()))
    return Reason(f"{name} has more labels than a name of a Service, port or endpoint has", near)


def _exists(step: Step, name: str, parsed: ClusterName, cluster: Cluster) -> Reason:
    if parsed.subtree == "pod":
        return Reason(f"{name} is the name of a Pod's address; 'pods {cluster.options.pods}' answers it")
    service = cluster.index.service(parsed.namespace, parsed.service) if parsed.service else None
    if service is None:
        return Reason(f"{name} exists, but is no Service: it has no records of type {type_text(step.rtype)}")
    objects = _objects(service, cluster)
    what = f"Service {service.namespace}/{service.name}"
    if step.reply is not None and not step.reply.answer:
        have = "IPv6" if any(":" in one for one in service.cluster_ips) else "IPv4"
        text = f"{what} exists, but has no {type_text(step.rtype)} records"
        if step.rtype in (Type.A, Type.AAAA):
            text += f"; its addresses are {have} addresses"
        return Reason(text, (), objects)
    if service.external_name is not None:
        text = f"{what} is an ExternalName for {service.external_name}"
        if step.reply is not None and not has_data(step.reply.answer, step.rtype):
            text += f", which has no {type_text(step.rtype)} records"
        return Reason(text, (), objects)
    if service.headless:
        return Reason(f"{what} is headless: the records are those of its ready endpoints", (), objects)
    found = Reason(f"{what} has the ClusterIP {' and '.join(service.cluster_ips)}", (), objects)
    slices = cluster.index.slices(parsed.namespace, parsed.service)
    if not any(one.endpoints for one in slices) and cluster.options.watch.endpoint_slices:
        found.notes.append("the Service has no ready endpoint, so connections to its address fail")
    return found


def has_data(records: Iterable[Record], rtype: int) -> bool:
    """Returns True if the records of an answer are more than a chain of CNAME records, or if CNAME was queried."""
    return any(record.rtype != Type.CNAME or rtype in (Type.CNAME, Type.ANY) for record in records)


def _nonexistent(name: str, parsed: ClusterName, zone: str, cluster: Cluster) -> Reason:
    index, options = cluster.index, cluster.options
    if parsed.subtree == "pod":
        if options.pods == "disabled":
            return Reason(f"{name} is a name of a Pod's address, and 'pods disabled' is set")
        return Reason(f"{name}: no Pod with this address is in namespace '{parsed.namespace}'")
    if not index.has_namespace(parsed.namespace):
        namespaces = sorted({namespace for _, namespace in _keys(cluster, Kind.NAMESPACE)})
        near = difflib.get_close_matches(parsed.namespace, namespaces, NEAR, 0.5)
        found = tuple(f"{parsed.service}.{one}.svc.{zone}" for one in near if index.service(one, parsed.service))
        return Reason(f"namespace '{parsed.namespace}' does not exist", found or _near(parsed.service, cluster, zone))
    if options.namespaces and parsed.namespace not in options.namespaces:
        return Reason(f"namespace '{parsed.namespace}' is not in 'namespaces' of the Corefile, so it is not served")
    service = index.service(parsed.namespace, parsed.service)
    if service is None:
        there = sorted(namespace for namespace, one in _keys(cluster, Kind.SERVICE) if one == parsed.service)
        text = f"namespace '{parsed.namespace}' has no Service '{parsed.service}'"
        if there:
            text += f"; there is one of this name in namespace {', '.join(there[:NEAR])}"
            return Reason(text, tuple(f"{parsed.service}.{one}.svc.{zone}" for one in there[:NEAR]))
        return Reason(text, _near(f"{parsed.service}.{parsed.namespace}", cluster, zone))
    what, objects = f"Service {service.namespace}/{service.name}", _objects(service, cluster)
    if service.external_name is not None:
        return Reason(f"{what} is an ExternalName, and has no names below its own", (), objects)
    ports = _ports(service, cluster)
    if parsed.port or parsed.protocol:
        fitting = [port for port in ports if port.name.lower() == parsed.port]
        listed = ", ".join(f"{port.name or '(no name)'}/{port.protocol}" for port in ports)
        base = f"{service.name}.{service.namespace}.svc.{zone}".lower()
        near_ports = difflib.get_close_matches(
            parsed.port, [port.name.lower() for port in ports if port.name], NEAR, 0.4
        )
        close = tuple(f"_{p.name.lower()}._{p.protocol.lower()}.{base}" for p in ports if p.name.lower() in near_ports)
        if not fitting and ports:
            return Reason(f"{what} has no port named '{parsed.port}'; its ports are {listed}", close, objects)
        if fitting and all(port.protocol.lower() != parsed.protocol for port in fitting):
            return Reason(f"port '{parsed.port}' of {what} is not of protocol {parsed.protocol}; its ports are {listed}",
                          tuple(f"_{p.name.lower()}._{p.protocol.lower()}.{base}" for p in fitting), objects)  # fmt: skip
    if service.headless and not any(one.endpoints for one in index.slices(parsed.namespace, parsed.service)):
        return Reason(f"{what} is headless and has no ready endpoint, so it has no records", (), objects)
    if parsed.endpoint:
        return Reason(f"{what} has no ready endpoint named '{parsed.endpoint}'", (), objects)
    if options.ignore_empty_service:
        return Reason(f"{what} has no ready endpoint, and 'ignore empty_service' is set", (), objects)
    return Reason(f"{what} has no records for {name}", (), objects)


def _keys(cluster: Cluster, kind: Kind) -> Sequence[tuple[str, str]]:
    return list(cluster.index.names(kind))  # type: ignore[call-overload, no-any-return]


def _near(text: str, cluster: Cluster, zone: str) -> tuple[str, ...]:
    """Returns the existing Services whose names are most similar to `text`, as `service` or `service.namespace`."""
    wanted, _, within = text.partition(".")

    def likeness(key: tuple[str, str]) -> float:
        namespace, service = key
        like = difflib.SequenceMatcher(None, service, wanted).ratio()
        there = difflib.SequenceMatcher(None, namespace, within).ratio() if within else 1.0
        return like + there / 2 if like > _LIKE and there > _LIKE else 0.0

    scored = sorted(((likeness(key), key) for key in _keys(cluster, Kind.SERVICE)), key=lambda one: (-one[0], one[1]))
    return tuple(f"{service}.{namespace}.svc.{zone}" for score, (namespace, service) in scored[:NEAR] if score)


def _ports(service: Service, cluster: Cluster) -> tuple[Port, ...]:
    """Returns the ports for SRV names: those of the EndpointSlices for a headless Service, or else those of the
    Service.
    """
    if not service.headless:
        return service.ports
    slices = cluster.index.slices(service.namespace.lower(), service.name.lower())
    return tuple(dict.fromkeys(port for one in slices for port in one.ports)) or service.ports


def _objects(service: Service, cluster: Cluster) -> tuple[str, ...]:
    ports = ", ".join(f"{one.name or '-'} {one.number}/{one.protocol}" for one in service.ports if one.protocol)
    kind = (
        f"ExternalName {service.external_name}" if service.external_name is not None
        else "headless" if service.headless else f"ClusterIP {' '.join(service.cluster_ips)}"
    )  # fmt: skip
    out = [f"Service {service.namespace}/{service.name}: {kind}" + (f"; ports {ports}" if ports else "")]
    for one in cluster.index.slices(service.namespace.lower(), service.name.lower()):
        addresses = " ".join(endpoint.address for endpoint in one.endpoints[:5])
        more = f" and {len(one.endpoints) - 5} more" if len(one.endpoints) > 5 else ""
        ready = f"{len(one.endpoints)} ready endpoint{'' if len(one.endpoints) == 1 else 's'}"
        out.append(f"EndpointSlice {one.namespace}/{one.name}: {ready}{': ' + addresses if addresses else ''}{more}")
    return tuple(out)


def _alias_loop(name: bytes, cluster: Cluster) -> Reason | None:
    """Returns the reason if ExternalNames of the cluster form a loop, otherwise None."""
    seen: list[str] = []
    objects: list[str] = []
    text = names.to_text(name).lower()
    for _ in range(_ALIASES):
        service = _service_of(text, cluster)
        if service is None or service.external_name is None:
            return None
        if text in seen:
            way = " -> ".join((*seen[seen.index(text) :], text))
            return Reason(f"the ExternalNames form a loop: {way}", (), tuple(objects))
        seen.append(text)
        objects += _objects(service, cluster)[:1]
        text = service.external_name.lower().rstrip(".") + "."
    return None


def _service_of(name: str, cluster: Cluster) -> Service | None:
    zone = next((one for one in cluster.options.zones if name.endswith(f".svc.{one}")), None)
    if zone is None:
        return None
    labels = name.removesuffix(f".svc.{zone}").split(".")
    return cluster.index.service(labels[1], labels[0]) if len(labels) == 2 else None
