"""Checks of names as Pods look them up: through the search list of /etc/resolv.conf, with `ndots:5`.

The checks repeat the steps of two resolvers. glibc tries the names of the search list first, with an A and an AAAA
query at the same time from one socket, and goes on after NXDOMAIN or NODATA. musl does the same, but stops at the first
name that is not NXDOMAIN. Sources: resolv.conf(5); the behaviour of musl's src/network/lookup_name.c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from svcdns.conformance import expected
from svcdns.conformance.check import E2E, Check, checker
from svcdns.conformance.checks.selection import clustered, with_endpoints
from svcdns.conformance.cluster_model import Service
from svcdns.conformance.examiner import Answer, Examiner
from svcdns.conformance.outcome import Severity
from svcdns.conformance.queries import Query
from svcdns.wire.codes import TC, Type

CHECKS: Final[dict[str, Check]] = {}
check = checker("search", CHECKS)
NDOTS: Final = 5
EXTERNAL: Final = ("www.example.com", "example.com", "a.b.c.example.com")

_Pair = tuple[Answer, Answer]


def candidates(name: str, namespace: str, zone: str) -> list[str]:
    """Returns the names that a resolver in a Pod of `namespace` tries for `name`, in order."""
    if name.endswith("."):
        return [name]
    searched = [f"{name}.{suffix}" for suffix in (f"{namespace}.svc.{zone}", f"svc.{zone}", zone)]
    return [f"{name}.", *searched] if name.count(".") >= NDOTS else [*searched, f"{name}."]


async def _both(examiner: Examiner, name: str, *, tcp: bool) -> _Pair:
    queries = [Query(name, Type.A), Query(name, Type.AAAA)]
    if tcp:
        first, second = await examiner.pipelined([q.over_tcp() for q in queries])
    else:
        first, second = await examiner.together(queries)
        if first.reply.has(TC) or second.reply.has(TC):  # glibc and musl both query again over TCP
            first, second = await examiner.pipelined([q.over_tcp() for q in queries])
    return first, second


def _glibc_stops(pair: _Pair) -> bool:
    """Returns True if glibc would stop at this name, because one of the two answers has an address.

    Raises Failed for SERVFAIL.
    """
    return any(answer.rcode(0, 3).reply.answer for answer in pair)


def _musl_stops(pair: _Pair) -> bool:
    """Returns True if musl would stop at this name, because at least one of the two answers is not NXDOMAIN."""
    return any(answer.rcode(0, 3).reply.rcode == 0 for answer in pair)


async def _look_up(examiner: Examiner, service: Service, stops: Callable[[_Pair], bool], *, tcp: bool) -> None:
    """Raises Failed unless every shortened name of a Service resolves to the Service's addresses.

    The names are looked up as in a Pod of the same namespace, and as in a Pod of another one. `stops` decides whether
    the resolver stops at a name of the search list.
    """
    wanted = expected.addresses(service, 4) | expected.addresses(service, 6)
    full = f"{service.name}.{service.namespace}"
    elsewhere = next((ns for ns in sorted(examiner.cluster.namespaces) if ns != service.namespace), "default")
    lookups = [
        (service.name, service.namespace),
        (full, elsewhere),
        (f"{full}.svc", elsewhere),
        (f"{full}.svc.{examiner.zone}", elsewhere),
    ]
    lookups.append((f"{full}.svc.{examiner.zone.rstrip('.')}", elsewhere))
    for name, namespace in lookups:
        for candidate in candidates(name, namespace, examiner.zone):
            pair = await _both(examiner, candidate, tcp=tcp)
            if stops(pair):
                break
        found = set(pair[0].reply.data(Type.A)) | set(pair[1].reply.data(Type.AAAA))
        ends = ", ".join(sorted(found)[:6]) or "nothing"
        shown = ", ".join(sorted(wanted)[:6])
        pair[0].require(
            found == wanted,
            f"the search for {name!r} from namespace {namespace} to end at {shown}; it ends here at {ends}",
        )


def _services(examiner: Examiner) -> list[Service]:
    return examiner.sample([*clustered(examiner)[:3], *with_endpoints(examiner)[:2]], "no Service has an address")


@check(
    "search-glibc",
    Severity.REQUIRED,
    f"resolv.conf(5), RFC 1034 §4.3.2; {E2E}, should resolve DNS of partial qualified names for services",
)
async def search_glibc(examiner: Examiner) -> None:
    """Partial names of a Service resolve through the search list with ndots:5 in glibc's order, over UDP."""
    for service in _services(examiner):
        await _look_up(examiner, service, _glibc_stops, tcp=False)


@check("search-glibc-tcp", Severity.REQUIRED, "resolv.conf(5) option use-vc, RFC 7766 §5")
async def search_glibc_tcp(examiner: Examiner) -> None:
    """Partial names of a Service resolve in glibc's order over TCP, with A and AAAA on one connection."""
    for service in _services(examiner):
        await _look_up(examiner, service, _glibc_stops, tcp=True)


@check("search-musl", Severity.REQUIRED, "RFC 2308 §2, musl's resolver")
async def search_musl(examiner: Examiner) -> None:
    """Partial names resolve in musl's order: A and AAAA at once from one socket, up to the first name that is not
    NXDOMAIN.
    """
    for service in _services(examiner):
        await _look_up(examiner, service, _musl_stops, tcp=False)


@check("search-outside", Severity.REQUIRED, "RFC 2308 §2.1, RFC 1034 §4.3.2")
async def search_outside(examiner: Examiner) -> None:
    """An external name with a search suffix gets NXDOMAIN for A and AAAA, so that the resolver continues to the name
    itself.
    """
    namespace = min(examiner.cluster.namespaces, default="default")
    for name in EXTERNAL:
        for candidate in candidates(name, namespace, examiner.zone)[:-1]:
            for answer in await _both(examiner, candidate, tcp=False):
                answer.no_name()
