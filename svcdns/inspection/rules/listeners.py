"""Finds two HTTP pages on one address, and HTTP pages on a DNS port."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from svcdns.corefile.blocks import Position
from svcdns.inspection.problem import Problem, error, note, warning
from svcdns.inspection.reading import Reading

_SHARED: Final = ("/metrics", "/ready")
"""Pages that several blocks may configure with one address, as in CoreDNS."""

_OF_COREDNS: Final = frozenset(("health", "pprof", "prometheus", "ready"))


class _Page(NamedTuple):
    path: str
    host: str
    port: int
    directive: str
    position: Position


def _pages(reading: Reading) -> list[_Page]:
    """Returns the pages of all blocks, in the order of the file."""
    return sorted(_unsorted(reading), key=lambda page: (page.position.file, page.position.line))


def _unsorted(reading: Reading) -> Iterator[_Page]:
    for plan in reading.plans:
        for name, settings in plan.settings.items():
            if settings.page is not None:
                host, port = settings.page.address
                yield _Page(settings.page.path, host, port, name, plan.block(name).directives[0].position)


def _meet(one: str, other: str) -> bool:
    """Returns True if two listening hosts have an address in common. An empty host means all addresses."""
    every = ("", "0.0.0.0", "::")
    return one == other or one in every or other in every


def pages_on_one_address(reading: Reading) -> Iterator[Problem]:
    """Finds pages that cannot both be served at their port, and `health` in several blocks.

    svcdns serves several pages at one address; CoreDNS does not.
    """
    before: list[_Page] = []
    for page in _pages(reading):
        for first in before:
            if page.port != first.port or not page.port or not _meet(page.host, first.host):
                continue
            where = f"line {first.position.line}"
            if page.path != first.path and page.host == first.host:
                if {page.directive, first.directive} <= _OF_COREDNS:
                    text = f"'{page.directive}' has the address of '{first.directive}' at {where}"
                    yield note(page.position, "page-shared", f"{text}; CoreDNS does not serve both")
            elif page.path != first.path:
                text = f"'{page.directive}' has the port {page.port} of '{first.directive}' at {where}"
                yield error(page.position, "page-conflict", text, "give each page a port of its own", starts=True)
            elif page.path not in _SHARED:
                text = f"'{page.directive}' at {where} serves this address already"
                yield warning(page.position, "page-twice", text, f"'{page.directive}' is needed once in a Corefile")
            else:
                continue
            break
        before.append(page)


def pages_on_a_dns_port(reading: Reading) -> Iterator[Problem]:
    """Finds pages on a TCP port on which DNS is served."""
    for page in _pages(reading):
        for plan, hosts in zip(reading.plans, reading.hosts, strict=True):
            key = next((key for key in plan.keys if key.port == page.port and page.port), None)
            if key is not None and any(_meet(page.host, host) for host in hosts):
                text = f"'{page.directive}' has TCP port {page.port}, on which DNS is served (line {key.position.line})"
                yield error(page.position, "page-conflict", text, "give the page a port of its own", starts=True)
                break
