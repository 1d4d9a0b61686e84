"""The lists of `svcdns top`: their columns and rows, and the texts of values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from svcdns.cli.top_figures import TopReport
from svcdns.control.traffic import Estimate, TopName, TrafficReport

Row = tuple[Any, ...]


class Column(NamedTuple):
    """A column of a list. `show` returns the text of a value."""

    title: str
    show: Callable[[Any], str] = str
    is_number: bool = False


class Listing(NamedTuple):
    """A list: its columns, the function that returns its rows, and the column that sorts it first."""

    columns: tuple[Column, ...]
    rows: Callable[[TopReport], Iterable[Row]]
    sort: int
    needs_traffic: bool = False


def _name_rows(names: Callable[[TrafficReport], Sequence[TopName]]) -> Callable[[TopReport], Iterable[Row]]:
    def rows(report: TopReport) -> Iterable[Row]:
        found = report.traffic
        for one in names(found) if found is not None else ():
            yield *_estimated(one.estimate, found), " ".join(one.rtypes), one.name

    return rows


def _client_rows(report: TopReport) -> Iterable[Row]:
    found = report.traffic
    for one in found.clients if found is not None else ():
        yield *_estimated(one.estimate, found), one.address, one.namespace, one.pod
    if found is not None and found.unseen_clients.queries:
        yield *_estimated(found.unseen_clients, found), "(not seen: answered in the kernel)", "", ""


def _namespace_rows(report: TopReport) -> Iterable[Row]:
    found = report.traffic
    for one in found.namespaces if found is not None else ():
        nxdomain, wasted = one.nxdomain.queries, one.search_path_misses.queries
        whole = one.queries.queries
        yield (
            *_estimated(one.queries, found),
            fraction(nxdomain, whole),
            fraction(wasted, whole),
            one.namespace or "(unknown)",
        )


def _waste_rows(report: TopReport) -> Iterable[Row]:
    found = report.traffic
    for one in found.namespaces if found is not None else ():
        wasted = one.search_path_misses
        if wasted.queries:
            per_second, error, _ = _estimated(wasted, found)
            outside = " ".join(name.name for name in one.outside)
            namespace = one.namespace or "(unknown)"
            yield per_second, error, fraction(wasted.queries, one.queries.queries), one.ndots, namespace, outside


def _estimated(one: Estimate, found: TrafficReport | None) -> tuple[float, float, float | None]:
    """Returns the rate of an estimate, the error of the rate, and its share of all queries."""
    assert found is not None
    seconds = found.seconds or 1.0
    return one.queries / seconds, one.error / seconds, fraction(one.queries, found.queries.queries)


def clean(text: str) -> str:
    """Returns the text without characters that a terminal does not print."""
    return "".join(one if one.isprintable() else "?" for one in text)


def rate(value: float) -> str:
    """Returns a rate with at most one digit after the point."""
    return f"{value:,.0f}" if value >= 10 or not value else f"{value:.1f}"


def fraction(part: float, whole: float) -> float | None:
    """Returns a part as a fraction of the whole, or None if the whole is 0."""
    return part / whole if whole else None


def percent(value: float | None) -> str:
    """Returns a fraction as a percentage, or `-` for None."""
    return "-" if value is None else f"{100 * value:.1f} %"


def milliseconds(value: float | None) -> str:
    """Returns a duration in milliseconds."""
    return "-" if value is None else f"{value:.2f} ms" if value < 10 else f"{value:,.0f} ms"


def size(octets: float) -> str:
    """Returns a number of octets with a binary unit."""
    for unit in ("B", "KiB", "MiB"):
        if octets < 1024:
            return f"{octets:.0f} {unit}"
        octets /= 1024
    return f"{octets:.1f} GiB"


def span(seconds: float) -> str:
    """Returns a duration in its largest unit."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _upstream_rows(report: TopReport) -> Iterable[Row]:
    workers = sum(one.name.startswith("worker") for one in report.processes)
    for one in report.upstreams:
        state = f"down in {one.open_circuits} of {workers}" if one.open_circuits else "up"
        yield one.address, state, one.queries, one.failures, one.mean, one.failed_checks, one.plugin


_RATE: Final = Column("PER S", rate, True)
_ERROR: Final = Column("+-", rate, True)
_SHARE: Final = Column("SHARE", percent, True)
_ESTIMATE: Final = (_RATE, _ERROR, _SHARE)
_NAMES: Final = (*_ESTIMATE, Column("TYPES"), Column("NAME"))
LISTS: Final[dict[str, Listing]] = {
    "names": Listing(_NAMES, _name_rows(lambda found: found.names), 0, True),
    "clients": Listing(
        (*_ESTIMATE, Column("CLIENT"), Column("NAMESPACE"), Column("POD")), _client_rows, 0, True
    ),
    "namespaces": Listing(
        (*_ESTIMATE, Column("NXDOMAIN", percent, True), Column("WASTE", percent, True), Column("NAMESPACE")),
        _namespace_rows, 0, True,
    ),
    "nxdomain": Listing(_NAMES, _name_rows(lambda found: found.nonexistent), 0, True),
    "waste": Listing(
        (*_ESTIMATE, Column("NDOTS", str, True), Column("NAMESPACE"), Column("OUTSIDE NAMES")), _waste_rows, 0, True
    ),
    "upstreams": Listing(
        (
            Column("UPSTREAM"), Column("STATE"), _RATE, Column("FAILED/S", rate, True),
            Column("MEAN", milliseconds, True), Column("FAILED CHECKS", str, True), Column("PLUGIN"),
        ),
        _upstream_rows,
        2,
    ),
    "caches": Listing(
        (
            Column("ZONES"), Column("KIND"), Column("HITS/S", rate, True), Column("EVICTED/S", rate, True),
            Column("ENTRIES", "{:,}".format, True), Column("SIZE", size, True), Column("SERVER"), Column("VIEW"),
        ),
        lambda report: (
            (one.zones, one.kind, one.hits, one.evictions, one.entries, one.bytes, one.server, one.view)
            for one in report.caches
        ),
        2,
    ),
    "views": Listing(
        (Column("PLUGIN"), Column("AGE", span, True), Column("COMPLETE"), Column("SOURCE"), Column("OBJECTS")),
        lambda report: (
            (
                one.plugin, one.age, "yes" if one.complete else "no", one.source,
                ", ".join(f"{count:,} {kind}" for kind, count in one.objects.items()),
            )
            for one in report.clusters
        ),
        1,
    ),
    "processes": Listing(
        (
            Column("PROCESS"), Column("PID", str, True), Column("CPU", percent, True),
            Column("MEMORY", size, True), Column("TABLE ENTRIES", "{:,}".format, True),
            Column("TABLE SIZE", size, True), Column("STATE"),
        ),
        lambda report: (
            (one.name, one.pid, one.cpu, one.resident_bytes, one.table_entries, one.table_bytes, one.state)
            for one in report.processes
        ),
        2,
    ),
}  # fmt: skip
"""The lists by name, in the order of their keys 1 to 9."""
