"""The status page as HTML (docs/plugins/status.md). Each text from the server's state is escaped.

The page is complete without JavaScript. The script replaces the part `live` from time to time.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Final

from svcdns.control import traffic_html
from svcdns.control.html_tables import number, section, table
from svcdns.control.status import Latency, Process, Status
from svcdns.control.traffic import TrafficReport

_FOLDER: Final = Path(__file__).parent / "status_page"
_STYLE: Final = (_FOLDER / "style.css").read_text()
_SCRIPT: Final = (_FOLDER / "script.js").read_text()
TYPES: Final = ("A", "AAAA", "SRV", "PTR", "CNAME", "TXT", "MX", "NS", "SOA")
WIDTH: Final = 600
HEIGHT: Final = 120


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_hash(_STYLE)}'; script-src 'sha256-{_hash(_SCRIPT)}'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of the page: nothing but its own style, script and requests."""


def document(
    status: Status,
    *,
    public: bool,
    traffic: TrafficReport | None = None,
    explanation: str = "",
    asked: Mapping[str, str] | None = None,
) -> str:
    """Returns the page. A `public` page has no names of clients, no query names and no form.

    `traffic` has the estimates of the plugin *traffic*. `asked` has the fields of the form, and `explanation` the text
    that explains the name in it.
    """
    form = "" if public else _form(asked or {}, explanation)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>svcdns {escape(status.version)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>svcdns {escape(status.version)}</h1>"
        '<p id="contact" class="bad" role="status"></p></header>\n'
        f'<main>\n<div id="live">{live(status, traffic, public=public)}</div>\n{form}</main>\n'
        "<footer><p>Counts are since the start of the program, in server blocks with <em>prometheus</em>.</p></footer>\n"
        f"<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def live(status: Status, traffic: TrafficReport | None = None, *, public: bool = False) -> str:
    """Returns the part of the page that changes. The arguments are those of `document`."""
    rate = "" if status.rates is None else f"{status.rates.queries:.1f}"
    parts = (
        _rates(status), _latency(status.queries.latency), _queries(status), _clusters(status), _upstreams(status),
        _caches(status), _processes(status), _corefile(status), *([] if public else traffic_html.sections(traffic)),
        _served(status),
    )  # fmt: skip
    return f'<div data-rate="{rate}">{_cards(status)}<div class="grid">{"".join(parts)}</div></div>'


def _cards(status: Status) -> str:
    queries, rates = status.queries, status.rates
    failed = queries.rcodes.get("SERVFAIL", 0)
    age = max((one.age for one in status.clusters), default=None)
    cards = [
        ("queries a second", "–" if rates is None else number(rates.queries), False),
        ("queries", number(queries.total), False),
        ("from the answer table", _share(queries.from_table, queries.total), False),
        ("SERVFAIL", _share(failed, queries.total), failed >= queries.total / 2000 > 0),
        ("median, 99th percentile", _percentiles(queries.latency), False),
        ("age of the cluster view", "no cluster" if age is None else _duration(age), age is not None and age > 300),
        ("time since the start", _duration(status.time - status.started_at), False),
        ("crashed handlers", number(status.panics), bool(status.panics)),
    ]
    if queries.from_kernel:
        cards.insert(3, ("answered in the kernel", _share(queries.from_kernel, queries.total), False))
    return (
        '<ul class="cards">'
        + "".join(
            f"<li{' class=bad' if bad else ''}><span>{label}</span><strong>{value}</strong></li>"
            for label, value, bad in cards
        )
        + "</ul>"
    )


def _rates(status: Status) -> str:
    now = (
        "after two requests for this page"
        if status.rates is None
        else ", ".join(
            f"{escape(rcode)} {number(rate)}"
            for rcode, rate in sorted(status.rates.rcodes.items(), key=lambda one: -one[1])
        )
    )
    return section(
        "Queries a second",
        f'<svg id="rates" viewBox="0 0 {WIDTH} 100" role="img" aria-label="Queries a second in the last five minutes">'
        f'</svg><p class="note" id="most"></p><p class="note">By response code: {now or "no queries"}.</p>',
    )


def _latency(latency: Latency) -> str:
    most, count = max(latency.counts, default=0), len(latency.counts)
    if not most:
        return section("Duration of queries", '<p class="note">No queries yet.</p>')
    wide = WIDTH / count
    bars = "".join(
        f'<rect class="bar" x="{at * wide + 1:.1f}" y="{HEIGHT - 20 - 96 * found / most:.1f}" width="{wide - 2:.1f}" '
        f'height="{96 * found / most:.1f}"><title>{_bound(latency, at)}: {found}</title></rect>'
        for at, found in enumerate(latency.counts)
    )
    marks = "".join(
        f'<text x="{at * wide + 1:.1f}" y="{HEIGHT - 5}">{_seconds(latency.bounds[at])}</text>'
        for at in range(0, count - 1, max(1, count // 6))
    )
    return section(
        "Duration of queries",
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Histogram of durations: {_percentiles(latency)}">'
        f"{bars}{marks}</svg>",
    )


def _queries(status: Status) -> str:
    queries = status.queries
    rows = [
        *(("response code", name, count) for name, count in _largest(queries.rcodes)),
        *(("type", name, count) for name, count in _largest(queries.types)),
        *(("transport", name, count) for name, count in _largest(queries.transports)),
    ]
    return table("Queries", ("", "", "#queries"), [(one, name, number(count)) for one, name, count in rows])


def _clusters(status: Status) -> str:
    rows = [
        (
            one.plugin, one.source, "complete" if one.complete else "not complete yet", _duration(one.age),
            ", ".join(f"{count} {kind}" for kind, count in one.objects.items()),
        )
        for one in status.clusters
    ]  # fmt: skip
    return table("Cluster views", ("plugin", "source", "state", "#age", "objects"), rows)


def _upstreams(status: Status) -> str:
    rows = [
        (
            one.plugin, one.address, "down in " + str(one.open_circuits) if one.open_circuits else "up",
            number(one.queries), _seconds(one.mean), number(one.failed_checks),
            ", ".join(f"{rcode} {count}" for rcode, count in _largest(one.rcodes)),
        )
        for one in status.upstreams
    ]  # fmt: skip
    heads = ("plugin", "upstream", "state", "#queries", "#mean", "#failed checks", "response codes")
    return table("Upstreams", heads, rows, wide=True)


def _caches(status: Status) -> str:
    rows = [
        (one.server, one.zones, one.kind, number(one.entries), _octets(one.bytes), number(one.hits))
        for one in status.caches
    ]
    return table("Caches", ("server", "zones", "replies", "#entries", "#memory", "#hits"), rows)


def _processes(status: Status) -> str:
    rows = [
        (one.name, _state(one), str(one.pid), f"{one.cpu_seconds:.1f} s", _octets(one.resident_bytes), _fill(one))
        for one in status.processes
    ]
    rows += [(one.process, f"ended {one.count} times: {one.reason}", "", "", "", "") for one in status.restarts]
    memory = status.memory
    if memory.limit_bytes is not None and memory.working_set_bytes is not None:
        limit = f"{_octets(memory.working_set_bytes)} of {_octets(memory.limit_bytes)}"
        rows.append(("container", "", "", "", limit, f"tables at {memory.share:.0%}"))
    return table("Processes", ("process", "state", "#pid", "#CPU", "#memory", "#answer table"), rows)


def _corefile(status: Status) -> str:
    found = status.corefile
    rows = [
        ("loaded", f"{_duration(status.time - found.loaded_at)} ago" if found.loaded_at else "at the start"),
        ("SHA-512", found.sha512[:16]),
        ("failed reloads", str(found.reloads_failed)),
    ]
    if found.fallback:
        rows.append(("in use", "the last good Corefile, as the present one cannot be used"))
    if found.last_error:
        rows.append((f"last error, {_duration(status.time - found.last_failure_at)} ago", found.last_error))
    return table("Corefile", ("", ""), rows)


def _served(status: Status) -> str:
    rows = [(one.zone, one.address, one.view, " ".join(one.plugins)) for one in status.serving]
    return table("Served zones", ("zone", "address", "view", "plugins"), rows, wide=True)


def _form(asked: Mapping[str, str], explanation: str) -> str:
    chosen = asked.get("type", "A")
    types = "".join(f"<option{' selected' if one == chosen else ''}>{one}</option>" for one in TYPES)
    return (
        '<section class="wide"><h2>Explain a name</h2>\n<form method="get" action="./">'
        '<div><label for="name">Name</label><input id="name" name="name" required maxlength="255" '
        f'autocomplete="off" spellcheck="false" value="{escape(asked.get("name", ""))}"></div>'
        f'<div><label for="type">Type</label><select id="type" name="type">{types}</select></div>'
        '<div><label for="client">Client address</label><input id="client" name="client" maxlength="45" '
        f'autocomplete="off" value="{escape(asked.get("client", ""))}"></div>'
        f'<button>Explain</button></form>\n<pre id="explanation" role="status">{escape(explanation)}</pre></section>\n'
    )


def _largest(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(((name, count) for name, count in counts.items() if count), key=lambda one: -one[1])


def _percentiles(latency: Latency) -> str:
    return f"{_percentile(latency, 0.5)}, {_percentile(latency, 0.99)}"


def _percentile(latency: Latency, share: float) -> str:
    total, seen = sum(latency.counts), 0
    if not total:
        return "–"
    for at, count in enumerate(latency.counts):
        seen += count
        if seen >= total * share:
            return _bound(latency, at)
    return "–"


def _bound(latency: Latency, at: int) -> str:
    if at < len(latency.bounds):
        return f"≤ {_seconds(latency.bounds[at])}"
    return f"> {_seconds(latency.bounds[-1])}"


def _state(process: Process) -> str:
    return process.state.replace("_", " ") if process.pid or not process.state else f"{process.state}, no contact"


def _fill(process: Process) -> str:
    if not process.table_limit:
        return ""
    return f"{number(process.table_entries)} ({process.table_bytes / process.table_limit:.0%})"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def _octets(count: int) -> str:
    return f"{count / (1 << 20):,.1f} MiB"


def _seconds(seconds: float) -> str:
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def _duration(seconds: float) -> str:
    """Returns a duration in the form `3 d 4 h`, with at most two units."""
    whole = max(0, int(seconds))
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next((at for at, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count) or "0 s"
