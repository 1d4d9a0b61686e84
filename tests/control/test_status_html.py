"""The status page as HTML."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest

from svcdns.control import html_tables, status_html
from svcdns.control.status import (
    Cache,
    Cluster,
    Corefile,
    Latency,
    Memory,
    Process,
    Queries,
    Rates,
    Restarts,
    Served,
    Status,
    Upstream,
)
from svcdns.control.traffic import Estimate, NamespaceTraffic, TopClient, TopName, TrafficReport

EVIL = "<script>alert(1)</script>\"'&"
EMPTY = Status(
    format=1,
    version="9.9",
    time=1000.0,
    started_at=0.0,
    serving=[],
    corefile=Corefile("ab" * 64, 0.0, False, 0, 0.0, ""),
    clusters=[],
    queries=Queries(0, {}, {}, {}, 0, Latency([], [], 0.0)),
    rates=None,
    upstreams=[],
    caches=[],
    processes=[],
    restarts=[],
    memory=Memory(None, None, 1.0),
    panics=0,
    log_lines_dropped=0,
)
FULL = msgspec.structs.replace(
    EMPTY,
    serving=[Served("a.test.", f"dns://{EVIL}:53", EVIL, [EVIL])],
    corefile=Corefile("ab" * 64, 100.0, True, 3, 940.0, EVIL),
    clusters=[Cluster("kubernetes", EVIL, True, 400.0, {"service": 12})],
    queries=Queries(2000, {"A": 2000}, {"udp": 2000}, {"NOERROR": 1990, "SERVFAIL": 10}, 1500,
                    Latency([0.001, 0.01], [1900, 99, 1], 3.0)),
    rates=Rates(2.0, 123.4, 100.0, {"NOERROR": 123.4}),
    upstreams=[Upstream("forward", EVIL, 2, 1, 40, {EVIL: 40}, 0.0123)],
    caches=[Cache("dns://:53", EVIL, "", "success", 5, 1 << 20, 7, 0)],
    processes=[Process(EVIL, 17, "serving", 3 << 20, 1.5, 10, 50, 100), Process("worker 1", 0, "starting", 0, 0.0)],
    restarts=[Restarts("worker", EVIL, 2)],
    memory=Memory(100 << 20, 50 << 20, 0.5),
    panics=1,
)  # fmt: skip

REPORT = TrafficReport(
    1,
    60.0,
    10,
    Estimate(500.0, 20.0),
    (),
    (TopName("web.shop.svc.cluster.local.", ("A", "AAAA"), Estimate(1234.0, 56.4)),),
    (TopName(f"{EVIL}.test.", ("A",), Estimate(7.0, 0.0)),),
    (TopClient("10.0.0.9", "shop", "web-0", Estimate(80.0, 3.0)), TopClient("10.0.0.8", "", "", Estimate(1.0, 0.0))),
    (
        NamespaceTraffic(
            "shop", Estimate(90.0, 3.0), Estimate(60.0, 2.0), Estimate(45.0, 2.0),
            (TopName("api.example.com.", ("A",), Estimate(45.0, 2.0)),), 2, "dnsConfig:\n  options: []\n",
        ),
        NamespaceTraffic("other", Estimate(9.0, 1.0), Estimate(0.0, 0.0), Estimate(0.0, 0.0), (), 5, ""),
    ),
)  # fmt: skip


class Elements(HTMLParser):
    """The elements of a page: their names, and whether each one is closed."""

    VOID = ("meta", "input", "rect")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert all(name not in ("style", "onclick", "onload") for name, _ in attrs)
        self.names.append(tag)
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Elements:
    found = Elements()
    found.feed(text)
    found.close()
    assert found.open == []
    return found


@pytest.mark.parametrize("status", [EMPTY, FULL], ids=["empty", "full"])
def test_the_page_is_well_formed(status: Status) -> None:
    found = read(status_html.document(status, public=False))
    assert found.names.count("script") == 1
    assert found.names.count("h1") == 1
    assert "svcdns 9.9" in found.text


def test_clients_and_names() -> None:
    text = read(status_html.live(EMPTY, REPORT)).text
    for shown in ("1,234 ± 56", "shop/web-0", "10.0.0.8", "api.example.com.", "dnsConfig: options: []", "7"):
        assert shown in text
    assert "other" not in text
    assert "The plugin traffic" in read(status_html.live(EMPTY)).text


def test_queries_whose_clients_are_not_seen() -> None:
    report = replace(REPORT, unseen_clients=Estimate(70.0, 6.0))
    assert "not seenanswered in the kernel70 ± 6" in read(status_html.live(EMPTY, report)).text
    assert "not seen" not in read(status_html.live(EMPTY, REPORT)).text


def test_the_share_of_the_kernel() -> None:
    queries = msgspec.structs.replace(FULL.queries, from_kernel=1000)
    text = read(status_html.live(msgspec.structs.replace(FULL, queries=queries))).text
    assert "answered in the kernel50.0%" in text
    assert "in the kernel" not in read(status_html.live(FULL)).text


def test_texts_of_others_are_escaped() -> None:
    page = status_html.document(
        FULL, public=False, traffic=REPORT, explanation=EVIL, asked={"name": EVIL, "client": EVIL}
    )
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert") > 10
    assert EVIL in read(page).text


def test_a_public_page_has_no_form() -> None:
    page = status_html.document(FULL, public=True, explanation="private", asked={"name": "private"})
    assert "<form" not in page
    assert "private" not in page


@pytest.mark.parametrize(
    "text",
    [
        "123", "≤ 1 ms, ≤ 10 ms", "6 min 40 s", "75.0%", "tables at 50%", "the last good Corefile",
        "starting, no contact", "12.3 ms", "down in 2", "10 (50%)",
    ],
)  # fmt: skip
def test_figures(text: str) -> None:
    assert text in read(status_html.live(FULL)).text


@pytest.mark.parametrize(
    ("latency", "shown"),
    [
        (Latency([], [], 0.0), "–, –"),
        (Latency([0.001], [0, 0], 0.0), "–, –"),
        (Latency([0.001, 1.0], [1, 1, 2], 9.0), "≤ 1 s, > 1 s"),
        (Latency([0.00025], [5, 0], 0.0), "≤ 250 µs, ≤ 250 µs"),
    ],
)
def test_percentiles(latency: Latency, shown: str) -> None:
    assert status_html._percentiles(latency) == shown


def test_long_tables_are_cut() -> None:
    rows: list[Any] = [Served(f"z{number}.", "dns://:53", "", []) for number in range(html_tables.MANY_ROWS + 3)]
    found = read(status_html.live(msgspec.structs.replace(EMPTY, serving=rows))).text
    assert "and 3 more" in found
    assert f"z{html_tables.MANY_ROWS}." not in found


def test_the_policy_allows_nothing_from_elsewhere() -> None:
    page = status_html.document(EMPTY, public=False)
    assert "default-src 'none'" in status_html.POLICY
    assert "unsafe" not in status_html.POLICY
    assert not re.search(r"(src|href)=", page)
