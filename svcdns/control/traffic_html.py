"""The part of the status page about clients and names, from the samples of the plugin *traffic*."""

from __future__ import annotations

from collections.abc import Sequence

from svcdns.control.html_tables import number, section, table
from svcdns.control.traffic import Estimate, NamespaceTraffic, TopName, TrafficReport

TOP = 10
"""The largest number of items in each list on the page."""


def sections(report: TrafficReport | None) -> list[str]:
    """Returns the sections. Without a report, returns one section, which names the plugin *traffic*."""
    if report is None:
        return [section("Clients and names", "<p class=note>The plugin traffic estimates them from samples.</p>")]
    clients = [
        (one.address, f"{one.namespace}/{one.pod}" if one.pod else one.namespace, _shown(one.estimate))
        for one in report.clients
    ]
    if report.unseen_clients.queries:
        clients.append(("not seen", "answered in the kernel", _shown(report.unseen_clients)))
    waste = [one for one in report.namespaces if one.search_path_misses.queries]
    return [
        table("Top names, last minute", ("name", "types", "#queries"), _names(report.names)),
        table("Names that do not exist", ("name", "types", "#queries"), _names(report.nonexistent)),
        table("Top clients", ("address", "Pod or namespace", "#queries"), clients),
        table(
            "Queries that only search paths cause",
            ("namespace", "#queries", "#of these wasted", "names", "remedy in the Pod template"),
            [_waste(one) for one in waste],
            wide=True,
        ),
    ]


def _names(found: Sequence[TopName]) -> list[tuple[str, str, str]]:
    return [(one.name, " ".join(one.rtypes), _shown(one.estimate)) for one in found]


def _waste(one: NamespaceTraffic) -> tuple[str, ...]:
    names = ", ".join(name.name for name in one.outside[:3])
    remedy = " ".join(one.dns_config.split())
    return one.namespace or "unknown", _shown(one.queries), _shown(one.search_path_misses), names, remedy


def _shown(estimate: Estimate) -> str:
    """Returns an estimate with its error, such as `120 ± 14`."""
    error = f" ± {number(round(estimate.error))}" if estimate.error >= 0.5 else ""
    return f"{number(round(estimate.queries))}{error}"
