"""The text of `svcdns top`: screens, lists, keys and the report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from svcdns.cli.top_figures import Sample, TopReport, compute
from svcdns.cli.top_lists import LISTS, rate, size, span
from svcdns.cli.top_text import View, report_text, screen
from svcdns.control.status import Process
from svcdns.control.traffic import Estimate
from tests.support.server_states import TRAFFIC, bad_status, status

REPORT = compute(Sample(10.0, status(1000)), Sample(12.0, status(3000), TRAFFIC))
NO_TRAFFIC = compute(None, Sample(12.0, status(3000), None, "no server block has the plugin traffic"))
HEADER = """\
svcdns 1.0  up 60 s                                               /s  every 2 s
queries    1,000/s   udp 100 %   A 100 %
rcodes     NOERROR 750/s   NXDOMAIN 250/s
hits       table 90.0 %   cache 5.0 %   search-path waste 20.0 %
latency    p50 1.00 ms   p90 8.20 ms   p99 9.82 ms   mean 2.00 ms
upstreams  1 of 2 up   down: 192.0.2.2:53
views      age kubernetes 12 s
processes  2   CPU 100 %   memory 100 MiB of 170 MiB
"""


def texts(report: TopReport, view: View, width: int = 80, height: int = 24, **words: str) -> list[str]:
    return [line.text.rstrip() for line in screen(report, view, width, height, **words)]


def rows(view: View, report: TopReport = REPORT) -> list[list[str]]:
    """Returns the words of the list in a screen."""
    found = texts(report, view)[10:-1]
    return [line.split() for line in found if line]


def test_a_screen() -> None:
    found = texts(REPORT, View(), title="/s  every 2 s")
    assert "\n".join(found[:8]).split() == HEADER.split()
    assert found[1:13] == [
        *HEADER.splitlines()[1:],
        "",
        "[names]clients namespaces nxdomain waste upstreams caches views processes",
        "PER S▼   +-   SHARE  TYPES   NAME",
        "    50  1.0  50.0 %  A AAAA  web.shop.svc.cluster.local.",
        "    10  0.5  10.0 %  A       a.example.",
    ]
    assert found[-1].startswith("Tab list  o sort  r reverse  / filter")
    assert len(found) == 24


@pytest.mark.parametrize(
    ("listing", "expected"),
    [
        ("clients", ["80", "1.0", "80.0", "%", "10.0.0.7", "shop", "web-1"]),
        ("namespaces", ["80", "1.0", "80.0", "%", "37.5", "%", "25.0", "%", "shop"]),
        ("nxdomain", ["10", "0.5", "10.0", "%", "A", "a.example.shop.svc.cluster.local."]),
        ("waste", ["20", "1.0", "25.0", "%", "1", "shop", "a.example."]),
        ("upstreams", ["192.0.2.1:53", "up", "100", "0", "4.00", "ms", "0", "forward"]),
        ("caches", [".", "success", "50", "0", "20", "4", "KiB", "dns://:53"]),
        ("views", ["kubernetes", "12", "s", "yes", "in-cluster", "1,500", "service"]),
        ("processes", ["worker", "0", "3", "100.0", "%", "80", "MiB", "40", "8", "KiB", "serving"]),
    ],
)
def test_the_first_row_of_each_list(listing: str, expected: list[str]) -> None:
    assert rows(View(listing))[1] == expected


def press(*keys: str, **fields: Any) -> View:
    view = View(**fields)
    for key in keys:
        view.press(key)
    return view


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["2"], View("clients")),
        (["\t", "right"], View("namespaces")),
        (["backtab"], View("processes")),
        (["left", "right"], View("names")),
        (["3", "r", "4"], View("nxdomain")),
        (["r"], View(reversed=True)),
        (["o", "o"], View(sort={"names": 2})),
        (["j", "down", "pagedown", "k"], View(offset=11)),
        (["j", "g"], View()),
        (["/", "a", "q", "backspace", "?", "\r"], View(pattern="a?")),
        (["/", "a", "\n", "escape"], View()),
        (["/", "a", "escape"], View()),
        (["/", "a", "up"], View(pattern="a", editing=True)),
        ([" "], View(paused=True)),
        ([" ", " "], View()),
        (["?"], View(help=True)),
        (["?", "x"], View()),
        (["?", "q"], View(ended=True)),
        (["q"], View(ended=True)),
        (["0", "", "z"], View()),
    ],
)
def test_keys(keys: list[str], expected: View) -> None:
    assert press(*keys) == expected


def test_sort_and_filter() -> None:
    """Numbers begin with the largest one, and texts with the first one of the alphabet."""
    view = View("clients")
    assert [row[4] for row in rows(view)[1:]] == ["10.0.0.7", "10.0.0.9"]
    view.press("r")
    assert [row[4] for row in rows(view)[1:]] == ["10.0.0.9", "10.0.0.7"]
    view = press("o", "o", "o", "o", listing="clients")
    assert "NAMESPACE▲" in rows(view)[0]
    view = press("o", "o", "o", listing="clients")
    assert [row[4] for row in rows(view)[1:]] == ["10.0.0.7", "10.0.0.9"]
    view = press("/", "W", "E", "B", listing="clients")
    assert [row[4] for row in rows(view)[1:]] == ["10.0.0.7"]
    assert "filter: WEB_" in texts(REPORT, view)[-1]
    view.press("\r")
    assert texts(REPORT, view)[-1].endswith("filter: WEB")


def test_scrolling_ends_at_the_last_row() -> None:
    view = press("pagedown", "pagedown", listing="processes")
    many = status(processes=[Process(f"worker {number}", number, "", 0, 0.0) for number in range(30)])
    found = texts(compute(None, Sample(1.0, many)), view)
    assert view.offset == 18
    assert found[-1].endswith("19-30 of 30")
    assert len(found) == 24
    view.press("k")
    assert view.offset == 17


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 12), (20, 6), (200, 60)])
@pytest.mark.parametrize("shows_help", [False, True])
def test_a_screen_has_its_height(width: int, height: int, shows_help: bool) -> None:
    found = screen(compute(None, Sample(1.0, bad_status())), View(help=shows_help), width, height, "t" * 99, "trouble")
    assert len(found) == height or (shows_help and len(found) < height)
    assert not any("\x1b" in line.text or "\n" in line.text for line in found)


def test_problems_are_red() -> None:
    found = screen(compute(None, Sample(1.0, bad_status())), View(), 80, 40, "", "no contact for 9 s: refused")
    assert [line.text for line in found if line.style == "bold red"] == [
        "no contact for 9 s: refused",
        "the last good Corefile is in use, because the present one cannot be used",
        "reload failed: Corefile:3?[2J: no plugin",
        "3 panics of plugins; see the log",
        "unexpected ends: worker 0 2",
        "memory is short: answer tables and caches have 25.0 % of their usual size",
        "4 log lines were dropped",
    ]


def test_queries_whose_clients_are_not_seen() -> None:
    assert REPORT.traffic is not None
    traffic = replace(REPORT.traffic, unseen_clients=Estimate(600.0, 30.0))
    text = report_text(msgspec.structs.replace(REPORT, traffic=traffic))
    assert "(not seen: answered in the kernel)" in text


def test_the_share_of_the_kernel() -> None:
    text = report_text(msgspec.structs.replace(REPORT, kernel_hits=800.0))
    assert "table 90.0 %   cache 5.0 %   kernel 80.0 %" in text
    assert "kernel" not in report_text(REPORT)


def test_a_server_without_traffic() -> None:
    assert texts(NO_TRAFFIC, View())[1] == "queries    measuring"
    assert texts(NO_TRAFFIC, View())[10] == "not known: no server block has the plugin traffic"
    assert "no names, clients and namespaces: no server block has" in report_text(NO_TRAFFIC)


def test_the_report_has_every_list() -> None:
    found = report_text(REPORT)
    assert found.startswith("svcdns 1.0, up 60 s, 2.0 s measured\nqueries    1,000/s")
    assert all(f"\n\n{name}\n" in found for name in LISTS)
    assert not any(line != line.rstrip() for line in found.splitlines())


def test_units() -> None:
    assert [rate(value) for value in (0.0, 0.04, 9.96, 1234.6)] == ["0", "0.0", "10.0", "1,235"]
    assert [size(value) for value in (512, 2048, 5 << 20, 3 << 30)] == ["512 B", "2 KiB", "5 MiB", "3.0 GiB"]
    assert [span(value) for value in (-1, 90, 600, 8000, 200_000)] == ["0 s", "90 s", "10 min", "2 h", "2 d"]
