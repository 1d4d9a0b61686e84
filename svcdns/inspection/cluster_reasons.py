"""Explains in one sentence why a name of the cluster has its answer, and finds existing names that are similar."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from typing import Final

from svcdns.cluster.changes import Kind
from svcdns.cluster.objects import Service
from svcdns.inspection.cluster_objects import Cluster, Reason, alias_loop, final_target, has_data, objects_of, ports_of
from svcdns.inspection.offline import Step
from svcdns.plugins.kubernetes.options import Options as KubernetesOptions
from svcdns.plugins.kubernetes.qname import ClusterName, NoSuchNameError
from svcdns.plugins.kubernetes.qname import parse as parse_cluster_name
from svcdns.wire import names
from svcdns.wire.codes import Rcode, Type, type_text

NEAR: Final = 3
"""The most names that are proposed."""
_LIKE: Final = 0.6
Target = Callable[[str], tuple[str, bool]]
"""Takes the target of an ExternalName, in lower case with a final dot. Returns the reason for the reply for the target,
and whether this reply is NOERROR or NXDOMAIN. The reason is empty if there was no query for the target."""
_REVERSE: Final = ("in-addr.arpa.", "ip6.arpa.")


def of_cluster(step: Step, cluster: Cluster, target: Target) -> Reason:
    """Returns the reason for a reply that `kubernetes` made.

    `target` explains the target of an ExternalName that is outside of the zone.
    """
    zone = _zone(step.name, cluster.options)
    reply = step.reply
    name = names.to_text(step.name)
    if reply is not None and reply.rcode == Rcode.SERVFAIL:
        if not cluster.index.synced:
            return Reason("the objects of the cluster are not known yet, so cluster names are SERVFAIL")
        return alias_loop(step.name, cluster) or Reason(f"{name} is SERVFAIL: {reply.error or 'no plugin answers it'}")
    if zone.endswith(_REVERSE):
        return _reverse(step, name)
    labels = _labels(step.name, zone)
    parsed = _parsed(labels, zone, cluster)
    if parsed is None:
        return _no_form(name, labels, zone, cluster)
    loop = alias_loop(step.name, cluster)
    if loop is not None and (reply is None or not any(record.rtype == step.rtype for record in reply.answer)):
        return loop
    if reply is not None and reply.rcode == Rcode.NOERROR:
        return _exists(step, name, parsed, cluster, target)
    return _nonexistent(name, parsed, zone, cluster)


def of_fallthrough(step: Step, cluster: Cluster) -> Reason | None:
    """Returns the reason why `kubernetes` has no answer for a name; None for a name outside of its zones."""
    name, zone = names.to_text(step.name), _zone(step.name, cluster.options)
    if not any(names.is_within(step.name.lower(), names.from_text(one).lower()) for one in cluster.options.zones):
        return None
    if not cluster.index.synced:
        return Reason("the objects of the cluster are not known yet")
    if zone.endswith(_REVERSE):
        return Reason(f"{name} is the address of no Service and of no named endpoint")
    labels = _labels(step.name, zone)
    parsed = _parsed(labels, zone, cluster)
    return _no_form(name, labels, zone, cluster) if parsed is None else _nonexistent(name, parsed, zone, cluster)


def _labels(name: bytes, zone: str) -> list[str]:
    below = name[: len(name) - len(names.from_text(zone))] + b"\0"
    return [label.decode("latin-1").lower() for label in names.labels_of(below)]


def _parsed(labels: list[str], zone: str, cluster: Cluster) -> ClusterName | None:
    options = cluster.options
    try:
        return parse_cluster_name(labels, multicluster=zone in options.multicluster, zonal=options.zonal)
    except NoSuchNameError:
        return None


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


def _exists(step: Step, name: str, parsed: ClusterName, cluster: Cluster, target: Target) -> Reason:
    if parsed.subtree == "pod":
        return Reason(f"{name} is the name of a Pod's address; 'pods {cluster.options.pods}' answers it")
    service = cluster.index.service(parsed.namespace, parsed.service) if parsed.service else None
    if service is None:
        return Reason(f"{name} exists, but is no Service: it has no records of type {type_text(step.rtype)}")
    objects = objects_of(service, cluster)
    what = f"Service {service.namespace}/{service.name}"
    answer = () if step.reply is None else step.reply.answer
    if service.external_name is not None and (answer or step.rtype in (Type.A, Type.AAAA)):
        text = f"{what} is an ExternalName for {service.external_name}"
        if not has_data(answer, step.rtype):
            text += _without_records(service, type_text(step.rtype), cluster, target)
        return Reason(text, (), objects)
    if step.reply is not None and not answer:
        text = f"{what} exists, but has no {type_text(step.rtype)} records"
        if step.rtype in (Type.A, Type.AAAA):
            have = "IPv6" if any(":" in one for one in service.cluster_ips) else "IPv4"
            text += f"; its addresses are {have} addresses"
        return Reason(text, (), objects)
    if service.headless:
        return Reason(f"{what} is headless: the records are those of its ready endpoints", (), objects)
    found = Reason(f"{what} has the ClusterIP {' and '.join(service.cluster_ips)}", (), objects)
    slices = cluster.index.slices(parsed.namespace, parsed.service)
    if not any(one.endpoints for one in slices) and cluster.options.watch.endpoint_slices:
        found.notes.append("the Service has no ready endpoint, so connections to its address fail")
    return found


def _without_records(service: Service, rtype: str, cluster: Cluster, target: Target) -> str:
    """Returns the end of the sentence about an ExternalName: why its target has no records of a type."""
    last = final_target(service, cluster)
    zone = _zone(names.from_text(last), cluster.options)
    if last.endswith(f".{zone}") or last == zone:
        labels = _labels(names.from_text(last), zone)
        parsed = _parsed(labels, zone, cluster)
        there = None if parsed is None else cluster.index.service(parsed.namespace, parsed.service)
        if parsed is None:
            cause = _no_form(last, labels, zone, cluster).cause
        elif there is not None and not there.headless and there.external_name is None:
            cause = f"Service {there.namespace}/{there.name} has the ClusterIP {' and '.join(there.cluster_ips)}"
        else:
            cause = _nonexistent(last, parsed, zone, cluster).cause
        return f", which has no {rtype} records: {cause}"
    cause, is_known = target(last)
    if is_known or not cause:
        return f", which has no {rtype} records" + (f": {cause}" if cause else "")
    return f", whose {rtype} records cannot be found: {cause}"


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
    what, objects = f"Service {service.namespace}/{service.name}", objects_of(service, cluster)
    if service.external_name is not None:
        return Reason(f"{what} is an ExternalName, and has no names below its own", (), objects)
    ports = ports_of(service, cluster)
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
