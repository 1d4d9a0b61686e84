"""Finds `forward` directives whose queries come back to this server."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path

from svcdns.chain.plan import BlockPlan
from svcdns.control.configuration import interfaces
from svcdns.inspection.problem import Problem, error, warning
from svcdns.inspection.reading import Reading
from svcdns.inspection.rules.reachability import within
from svcdns.plugins.forward.options import Options as ForwardOptions
from svcdns.plugins.forward.options import Rule
from svcdns.plugins.forward.upstream_addresses import NamedUpstream, TlsUpstream
from svcdns.plugins.forward.upstream_files import nameservers
from svcdns.upstream.query import Address


def _rules(plan: BlockPlan) -> tuple[Rule, ...]:
    options = plan.options.get("forward")
    return options.rules if isinstance(options, ForwardOptions) else ()


def _addresses(rule: Rule) -> Iterator[tuple[Address, str]]:
    """Yields the upstream addresses of a rule, from the Corefile and resolv.conf(5), each with its transport."""
    for upstream in rule.upstreams:
        if isinstance(upstream, NamedUpstream):
            for address in _in_file(upstream):
                yield address, "dns"
        elif isinstance(upstream, TlsUpstream):
            yield upstream.address, "tls"
        else:
            yield upstream, "dns"


def _in_file(upstream: NamedUpstream) -> list[Address]:
    try:
        return nameservers(Path(upstream.path).read_bytes())
    except OSError:
        return []


def _serving(reading: Reading, address: Address, transport: str, zone: str) -> BlockPlan | None:
    """Returns the block of this Corefile that gets queries for `zone` at the address, or None."""
    host, port = address
    own = {one.partition("%")[0] for addresses in interfaces().values() for one in addresses}
    best: tuple[int, BlockPlan] | None = None
    for plan, hosts in zip(reading.plans, reading.hosts, strict=True):
        if not any(bound == host or (bound == "" and host in own) for bound in hosts):
            continue
        for key in plan.keys:
            if key.port == port and key.transport == transport and within(zone, key.zone):
                length = 0 if key.zone == "." else key.zone.count(".")
                if best is None or length > best[0]:
                    best = length, plan
    return best[1] if best else None


def _chain(reading: Reading, plan: BlockPlan, rule: Rule) -> list[BlockPlan]:
    """Returns the blocks that a query for the rule's zone passes after `plan`.

    In each block, the query goes to the first upstream that is this server.
    """
    passed: list[BlockPlan] = []
    while True:
        found = next(
            (
                block
                for address, transport in _addresses(rule)
                if (block := _serving(reading, address, transport, rule.zone)) is not None
            ),
            None,
        )
        if found is None:
            return passed
        passed.append(found)
        following = next((one for one in _rules(found) if within(rule.zone, one.zone)), None)
        if found is plan or found in passed[:-1] or following is None:
            return passed
        rule = following


def upstreams_that_are_this_server(reading: Reading) -> Iterator[Problem]:
    """Finds upstreams through which a query returns to the block that forwards it."""
    for plan in reading.plans:
        for rule in _rules(plan):
            passed = _chain(reading, plan, rule)
            if plan in passed:
                via = f" through {len(passed) - 1} other server block" if len(passed) > 1 else ""
                text = f"queries for {rule.zone} are forwarded to this server itself{via}, in a loop"
                yield error(
                    rule.position, "forwarding-loop", text, "name the address of another name server", starts=True
                )


def loopback_name_servers(reading: Reading) -> Iterator[Problem]:
    """Finds resolv.conf(5) files whose name server is a loopback address, which in a Pod is the Pod itself."""
    for plan in reading.plans:
        for rule in _rules(plan):
            for upstream in (one for one in rule.upstreams if isinstance(one, NamedUpstream)):
                for host, port in _in_file(upstream):
                    if ipaddress.ip_address(host).is_loopback and _serving(reading, (host, port), "dns", ".") is None:
                        text = f"{upstream.path} names {host}; in a Pod this address is the Pod itself"
                        mend = "forward to the file of the real name servers, such as /run/systemd/resolve/resolv.conf"
                        yield warning(rule.position, "loopback-name-server", text, mend)
