"""The text of `svcdns top`: its lines for a screen, its report for scripts, and its keys.

This module does not access the terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from svcdns.cli.top_figures import TopReport
from svcdns.cli.top_lists import LISTS, Column, clean, fraction, milliseconds, percent, rate, size, span

HELP: Final = """\
Tab, Right   next list                  o    sort by the next column
Left         previous list              r    reverse the order
1 to 9       one of the lists           /    filter; Enter keeps, Esc removes it
Down, j      next rows                  Space  pause, and go on
Up, k        previous rows              ?    this help
Home, g      first rows                 q    quit

names        most frequent query names; estimates of the plugin traffic
clients      clients with the most queries; estimates
namespaces   queries by namespace of the client; estimates
nxdomain     most frequent names that do not exist; estimates
waste        queries that only search paths cause, and the ndots to avoid them
upstreams    servers that receive forwarded queries
caches       stores of the plugin cache
views        cluster views, with the time since their source confirmed them
processes    supervisor, control and workers"""
_MIN_ROWS: Final = 4
_ORDER: Final = {True: "▼", False: "▲"}
_MOVES: Final = {"down": 1, "j": 1, "up": -1, "k": -1, "pagedown": 10, "pageup": -10}


class Line(NamedTuple):
    """A line of the screen. `style` is a style of rich, or empty."""

    text: str
    style: str = ""


@dataclass(slots=True)
class View:
    """What the screen displays. The keys change it."""

    listing: str = "names"
    sort: dict[str, int] = field(default_factory=dict)
    reversed: bool = False
    pattern: str = ""
    editing: bool = False
    offset: int = 0
    paused: bool = False
    help: bool = False
    ended: bool = False

    def press(self, key: str) -> None:
        """Applies a key to the view. `key` is a character, or a word such as `up`."""
        if self.editing:
            self._edit(key)
        elif self.help:
            self.help, self.ended = False, key == "q"
        elif key in _MOVES:
            self.offset = max(self.offset + _MOVES[key], 0)
        elif key in {"home", "g"}:
            self.offset = 0
        elif key in {"\t", "right"}:
            self._switch(list(LISTS).index(self.listing) + 1)
        elif key in {"backtab", "left"}:
            self._switch(list(LISTS).index(self.listing) - 1)
        elif key.isdecimal() and 0 < int(key) <= len(LISTS):
            self._switch(int(key) - 1)
        elif key == "o":
            self.sort[self.listing] = (self.sorted_by() + 1) % len(LISTS[self.listing].columns)
        elif key == "r":
            self.reversed = not self.reversed
        elif key == "/":
            self.editing, self.offset = True, 0
        elif key == "escape":
            self.pattern = ""
        elif key == " ":
            self.paused = not self.paused
        elif key == "?":
            self.help = True
        elif key == "q":
            self.ended = True

    def sorted_by(self) -> int:
        """Returns the number of the column that sorts the present list."""
        return self.sort.get(self.listing, LISTS[self.listing].sort)

    def _switch(self, number: int) -> None:
        self.listing, self.offset, self.reversed = list(LISTS)[number % len(LISTS)], 0, False

    def _edit(self, key: str) -> None:
        if key in {"\r", "\n"}:
            self.editing = False
        elif key == "escape":
            self.editing, self.pattern = False, ""
        elif key == "backspace":
            self.pattern = self.pattern[:-1]
        elif len(key) == 1 and key.isprintable():
            self.pattern += key


def screen(report: TopReport, view: View, width: int, height: int, title: str = "", trouble: str = "") -> list[Line]:
    """Returns the lines of a screen: the header, the list of the view, and a line with the keys.

    `title` is at the right of the first line. `trouble` is displayed in red.
    """
    if view.help:
        lines = [Line("svcdns top: keys and lists", "bold"), Line("")] + [Line(text) for text in HELP.splitlines()]
        return [*lines[: height - 1], Line("q quits; any other key goes back to the list.", "reverse")]
    first = f"svcdns {report.version}  up {span(report.uptime)}"
    title = title[: max(width - len(first) - 2, 0)]
    header = [Line(first + title.rjust(max(width - len(first), 0)), "bold")]
    header += ([Line(trouble, "bold red")] if trouble else []) + [Line(text, "bold red") for text in problems(report)]
    header += [Line(text) for text in summary(report)]
    header = header[: max(height - _MIN_ROWS - 4, 1)]
    tabs = f" {' '.join(LISTS)} ".replace(f" {view.listing} ", f"[{view.listing}]")
    body = _list_lines(report, view, mark=True)
    space = height - len(header) - 4
    view.offset = max(min(view.offset, len(body) - 1 - space), 0)
    rows = body[1 + view.offset :][:space]
    lines = [*header, Line(""), Line(_close(tabs, width), "bold"), body[0], *rows]
    lines += [Line("")] * (height - 1 - len(lines))
    return [*lines, _footer(view, len(body) - 1, space, width)]


def report_text(report: TopReport) -> str:
    """Returns the report for scripts: the summary, and every list that has rows."""
    out = [f"svcdns {report.version}, up {span(report.uptime)}, {report.seconds:.1f} s measured"]
    out += problems(report) + summary(report)
    for name, listing in LISTS.items():
        if listing.needs_traffic and report.traffic is None:
            continue
        lines = _list_lines(report, View(name), mark=False)
        if len(lines) > 1:
            out += ["", name, *(line.text.rstrip() for line in lines[:21])]
    if report.traffic is None:
        out += ["", f"no names, clients and namespaces: {clean(report.traffic_error)}"]
    return "\n".join(out) + "\n"


def summary(report: TopReport) -> list[str]:
    """Returns the lines about the whole server."""
    shares = (
        f"table {percent(fraction(report.table_hits, report.queries))}"
        f"   cache {percent(fraction(report.cache_hits, report.queries))}"
    )
    if report.kernel_hits:
        shares += f"   kernel {percent(fraction(report.kernel_hits, report.queries))}"
    latency = "-"
    if report.latency is not None:
        found = report.latency
        latency = (
            f"p50 {milliseconds(found.p50)}   p90 {milliseconds(found.p90)}   p99 {milliseconds(found.p99)}"
            f"   mean {milliseconds(found.mean)}"
        )
    down = [one.address for one in report.upstreams if one.open_circuits]
    upstreams = f"{len(report.upstreams) - len(down)} of {len(report.upstreams)} up" if report.upstreams else "none"
    views = ", ".join(
        f"{one.plugin} {span(one.age)}{'' if one.complete else ' (incomplete)'}" for one in report.clusters
    )
    cpu, resident = (
        sum(one.cpu for one in report.processes), sum(one.resident_bytes for one in report.processes),
    )  # fmt: skip
    limit = "" if report.memory.limit_bytes is None else f" of {size(report.memory.limit_bytes)}"
    waste = ""
    if report.traffic is not None:
        wasted = sum(one.search_path_misses.queries for one in report.traffic.namespaces)
        waste = f"   search-path waste {percent(fraction(wasted, report.traffic.queries.queries))}"
    return [
        f"queries    {_measured(report, rate(report.queries) + '/s')}   {_mix(report.transports, report.queries)}"
        f"   {_mix(report.types, report.queries)}".rstrip(),
        f"rcodes     {_measured(report, _rates_text(report.rcodes))}",
        f"hits       {_measured(report, shares)}{waste}",
        f"latency    {latency}",
        f"upstreams  {upstreams}" + (f"   down: {', '.join(down)}" if down else ""),
        f"views      {f'age {views}' if views else 'none'}",
        f"processes  {len(report.processes)}   CPU {100 * cpu:.0f} %   memory {size(resident)}{limit}",
    ]


def problems(report: TopReport) -> list[str]:
    """Returns a line for each fact that an operator should look at."""
    out = []
    if report.corefile.fallback:
        out.append("the last good Corefile is in use, because the present one cannot be used")
    if report.corefile.last_error:
        out.append(f"reload failed: {clean(report.corefile.last_error)}")
    if report.panics:
        out.append(f"{report.panics} panics of plugins; see the log")
    if report.restarts:
        out.append("unexpected ends: " + ", ".join(f"{one.process} {one.count}" for one in report.restarts))
    if report.memory.share < 1:
        out.append(f"memory is short: answer tables and caches have {percent(report.memory.share)} of their usual size")
    if report.log_lines_dropped:
        out.append(f"{report.log_lines_dropped} log lines were dropped")
    return out


def _list_lines(report: TopReport, view: View, *, mark: bool) -> list[Line]:
    """Returns the line of titles, and one line for each row that the filter lets through.

    With `mark`, an arrow marks the column that sorts the list.
    """
    listing, by = LISTS[view.listing], view.sorted_by()
    if listing.needs_traffic and report.traffic is None:
        return [Line(f"not known: {clean(report.traffic_error)}")]
    descending = listing.columns[by].is_number != view.reversed
    rows = sorted(listing.rows(report), key=lambda row: _sort_key(row[by]), reverse=descending)
    texts = [[clean(column.show(value)) for column, value in zip(listing.columns, row, strict=True)] for row in rows]
    texts = [row for row in texts if view.pattern.lower() in " ".join(row).lower()]
    titles = [
        column.title + (_ORDER[descending] if mark and number == by else "")
        for number, column in enumerate(listing.columns)
    ]
    widths = [max(len(row[number]) for row in (titles, *texts)) for number in range(len(titles))]
    return [
        Line(_row_text(listing.columns, row, widths), "" if number else "underline")
        for number, row in enumerate((titles, *texts))
    ]


def _row_text(columns: Sequence[Column], row: Sequence[str], widths: Sequence[int]) -> str:
    cells = zip(columns, row, widths, strict=True)
    return "  ".join(text.rjust(width) if column.is_number else text.ljust(width) for column, text, width in cells)


def _sort_key(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_sort_key(one) for one in value)
    return -1.0 if value is None else value


def _footer(view: View, total: int, space: int, width: int) -> Line:
    if view.editing:
        return Line(_close(f"filter: {view.pattern}_   Enter keeps it, Esc removes it", width), "reverse")
    keys = "Tab list  o sort  r reverse  / filter  Space pause  ? help  q quit"
    last = min(view.offset + space, total)
    place = f"{view.offset + 1}-{last} of {total}" if total > space else ""
    notes = [place, f"filter: {view.pattern}" if view.pattern else "", "PAUSED" if view.paused else ""]
    right = "  ".join(note for note in notes if note)
    return Line(_close(f"{keys[: max(width - len(right) - 2, 0)]}  {right}" if right else keys, width), "reverse")


def _close(text: str, width: int) -> str:
    return text[:width].ljust(width)


def _measured(report: TopReport, text: str) -> str:
    return text if report.seconds else "measuring"


def _rates_text(rates: Mapping[str, float]) -> str:
    return "   ".join(f"{name} {rate(value)}/s" for name, value in list(rates.items())[:4]) or "none"


def _mix(rates: Mapping[str, float], whole: float) -> str:
    return "  ".join(f"{name} {100 * value / whole:.0f} %" for name, value in list(rates.items())[:3]) if whole else ""
