"""Invariants in random clusters: answers agree with each other, and depend only on the current state of the cluster."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from itertools import islice
from random import Random
from typing import Any

import dns.flags
import dns.message
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from svcdns.cluster.changes import Complete, Gone, Kind, Put, Serials
from svcdns.cluster.index import Index
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.kubernetes import Kubernetes
from svcdns.plugins.loadbalance.rotation import Rotation
from svcdns.wire import names
from svcdns.wire.codes import Rcode, Type
from svcdns.wire.message import MAX_MESSAGE, encode_reply, udp_limit
from svcdns.wire.record import Record
from svcdns.wire.request import Request, accept
from tests.plugins.kubernetes.fixture import ask, plugin
from tests.support import clusters, world

CORE = "kubernetes cluster.local in-addr.arpa ip6.arpa set.local {{\n multicluster set.local\n {}\n}}"
NAMES = clusters.names(("cluster.local.", "set.local."))
OPTIONS = (
    "",
    "pods insecure",
    "pods verified\nendpoint_pod_names",
    "zonal\nignore empty_service",
    "namespaces d svc",
    "noendpoints",
)
SAMPLE = 40

seeds = st.integers(0, 1 << 32)
every_option = pytest.mark.parametrize("options", OPTIONS)
few = settings(max_examples=7, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def index(changes: Iterable[Put | Gone]) -> Index:
    out = Index(tuple(Kind))
    for change in changes:
        out.apply(change)
    for kind in Kind:
        out.apply(Complete(kind))
    out.apply(Serials(7, 7, 7))
    return out


def serving(seed: int, options: str) -> tuple[Kubernetes, Random]:
    """Returns the plugin with a random cluster, and the random generator."""
    rng = Random(seed)
    state = clusters.cluster(rng)
    return plugin(found=index(map(Put, state.values())), corefile=CORE.format(options.replace("\n", "\n "))), rng


def chosen(handler: Kubernetes, rng: Random) -> list[str]:
    """Returns names to query. About half of them exist."""
    shuffled = rng.sample(NAMES, len(NAMES))
    existing = (
        name for name in shuffled if ask(handler, name, "PTR" if name.endswith("arpa.") else "A").rcode == Rcode.NOERROR
    )
    return [*islice(existing, SAMPLE // 2), *shuffled[: SAMPLE // 2]]


def addresses(handler: Kubernetes, name: str) -> list[Record]:
    """Returns the A and AAAA records of a name."""
    found = [*ask(handler, name).answer, *ask(handler, name, "AAAA").answer]
    return [record for record in found if record.rtype in (Type.A, Type.AAAA)]


def address_text(record: Record) -> str:
    return str(ip_address(record.rdata))


@every_option
@given(seed=seeds)
@few
def test_addresses_have_reverse_names(options: str, seed: int) -> None:
    """The address of a Service or endpoint must be in canonical form in the API."""
    handler, rng = serving(seed, options)
    for name in chosen(handler, rng):
        if not name.endswith("svc.cluster.local."):
            continue  # Pods and imported Services have no PTR
        for record in ask(handler, name).answer + ask(handler, name, "AAAA").answer:
            address = address_text(record) if record.rtype in (Type.A, Type.AAAA) else ""
            if address in (*clusters.CLUSTER_IPS, *clusters.ADDRESSES):
                pointers = ask(handler, clusters.reverse_name(address), "PTR")
                assert pointers.rcode == Rcode.NOERROR, (name, address)
                assert pointers.answer or not handler.index.services_at(address), (name, address)


@every_option
@given(seed=seeds)
@few
def test_srv_targets_have_their_additional_addresses(options: str, seed: int) -> None:
    handler, rng = serving(seed, options)
    for name in chosen(handler, rng):
        reply = ask(handler, name, "SRV")
        targets = {record.rdata[6:] for record in reply.answer}
        assert {record.owner for record in reply.additional} == targets, name
        for target in targets:
            text = names.to_text(target)
            if "pod.b." in text:
                continue  # a Pod's name with a dot is two labels, and no label can equal it
            additional = {(record.rtype, record.rdata) for record in reply.additional if record.owner == target}
            assert additional <= {(record.rtype, record.rdata) for record in addresses(handler, text)}, (name, text)


@every_option
@given(seed=seeds)
@few
def test_no_name_exists_below_a_nonexistent_name(options: str, seed: int) -> None:
    """RFC 8020 states the rule. As in CoreDNS, names may exist one label left of a Service, below `dns`, and below
    `_zone`.
    """
    handler, rng = serving(seed, options)
    for name in chosen(handler, rng):
        if ask(handler, name).rcode != Rcode.NXDOMAIN or is_exception(name) or is_import_without_ports(handler, name):
            continue
        for label in ("x", "_http", "10-244-0-1", "h0", "ns", "db"):
            assert ask(handler, f"{label}.{name}").rcode == Rcode.NXDOMAIN, (label, name)


def is_exception(name: str) -> bool:
    """Returns True if names may exist below this name although the name gets NXDOMAIN. The rules are in
    docs/behaviour/cluster-names.md#name-parsing, #nxdomain-or-nodata.
    """
    labels = name.split(".")
    one_left_of_a_service = len(labels) == len(["x", "web", "d", "svc", "cluster", "local", ""])
    return one_left_of_a_service or labels[0] == "dns" or "_zone" in labels or name.endswith(".arpa.")


def is_import_without_ports(handler: Kubernetes, name: str) -> bool:
    """Returns True for the name of a ServiceImport without ports. As in CoreDNS, it has no records."""
    service, namespace, *rest = name.split(".")
    found = handler.index.service_import(namespace, service) if rest == ["svc", "set", "local", ""] else None
    return found is not None and not found.ports


@every_option
@given(seed=seeds)
@few
def test_answers_depend_on_the_state_alone(options: str, seed: int) -> None:
    rng = Random(seed)
    state = clusters.cluster(rng)
    history: list[Put | Gone] = []
    earlier: clusters.State = {}
    for _ in range(30):
        change = clusters.change(rng, earlier)
        clusters.apply(earlier, change)
        history.append(change)
    gone = [Gone(*key) for key in earlier if key not in state]
    final: list[Put | Gone] = [*gone, *map(Put, state.values())]
    rng.shuffle(final)
    corefile = CORE.format(options.replace("\n", "\n "))
    direct, indirect = (
        plugin(found=index(changes), corefile=corefile) for changes in (map(Put, state.values()), [*history, *final])
    )
    for name in chosen(direct, rng):
        for rtype in ("A", "AAAA", "SRV", "PTR", "CNAME", "TXT"):
            assert world.summary(ask(direct, name, rtype)) == world.summary(ask(indirect, name, rtype)), (name, rtype)


@every_option
@given(seed=seeds, size=st.sampled_from((0, 100, 512, 513, 700, 1232, 4096)), rotated=st.booleans())
@few
def test_replies_fit_and_parse(options: str, seed: int, size: int, rotated: bool) -> None:
    """A UDP reply is within the client's limit, and has TC if records are missing. A TCP reply is complete. dnspython
    can parse each reply.
    """
    handler, rng = serving(seed, options)
    for name in chosen(handler, rng)[::2]:
        for rtype in ("A", "SRV", "PTR"):
            request = request_for(name, rtype, size)
            reply = ask(handler, name, rtype)
            if rotated:
                reply = Rotation(reply, rng).variant(0, 1)
            wire = encode_reply(request, reply, udp_limit(request.edns))
            assert len(wire) <= max(512, size)
            small = dns.message.from_wire(wire, one_rr_per_rrset=True)
            whole = dns.message.from_wire(encode_reply(request, reply, MAX_MESSAGE), one_rr_per_rrset=True)
            assert not whole.flags & dns.flags.TC
            assert [len(section) for section in whole.sections[1:]] == [len(s) for s in sections(reply)]
            missing = any(
                len(fewer) < len(records) for fewer, records in zip(small.sections, whole.sections, strict=True)
            )
            assert bool(small.flags & dns.flags.TC) == missing
            assert small.answer == whole.answer[: len(small.answer)]


def sections(reply: Reply) -> tuple[tuple[Record, ...], ...]:
    return reply.answer, reply.authority, reply.additional


def request_for(name: str, rtype: str, size: int) -> Request:
    """Returns the request for a name. If `size` is not 0, the request has EDNS."""
    options: dict[str, Any] = {"use_edns": 0, "payload": size} if size else {"use_edns": False}
    request = accept(dns.message.make_query(name, rtype, **options).to_wire())
    assert isinstance(request, Request)
    return request
