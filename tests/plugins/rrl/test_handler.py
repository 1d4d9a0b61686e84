"""The accounts of *rrl* (docs/plugins/rrl.md): classes, networks and metrics."""

from __future__ import annotations

from typing import Any

import pytest

from svcdns.plugin_api.query import Query
from svcdns.plugin_api.rate_limit import Verdict
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.plugins.rrl import Rrl
from svcdns.plugins.rrl.handler import MAX_CLIENTS, OTHER_CLIENTS, Limiter
from svcdns.telemetry.counters import Counters
from svcdns.wire.codes import Rcode
from tests.support import world
from tests.support.world import Clock, counted, query, records

SOA = records("Example.org. 5 IN SOA ns.b. host.b. 1 2 3 4 5")
NS = records("sub.example.org. 5 IN NS ns.b.")
A = records("a.example.org. 5 IN A 192.0.2.1")
NXDOMAIN = Reply(rcode=Rcode.NXDOMAIN, authority=SOA)


def limiter(text: str = "responses-per-second 2", **fields: Any) -> Limiter:
    """Returns the limiter of a plugin with these options."""
    made = Rrl(world.options("rrl", f"rrl example.org {{\n {text}\n}}"), world.environment(**fields)).rate_limiter()
    assert isinstance(made, Limiter)
    return made


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param((query("a.b."), Reply(answer=A)), (query("A.B."), Reply(answer=A)), True, id="spelling"),
        pytest.param((query("a.b."), Reply(answer=A)), (query("c.b."), Reply(answer=A)), False, id="names"),
        pytest.param((query("a.b."), Reply(answer=A)), (query("a.b.", "TXT"), Reply(answer=A)), False, id="types"),
        pytest.param((query("a.b."), Reply()), (query("a.b.", "TXT"), Reply(authority=SOA)), True, id="NODATA"),
        pytest.param((query("a.b."), Reply()), (query("c.b."), Reply()), False, id="NODATA of two names"),
        pytest.param((query("a.b."), NXDOMAIN), (query("c.b.", "MX"), NXDOMAIN), True, id="NXDOMAIN of one zone"),
        pytest.param(
            (query("a.b."), NXDOMAIN), (query("a.b."), Reply(rcode=Rcode.NXDOMAIN)), False, id="NXDOMAIN without SOA"
        ),
        pytest.param((query("a.b."), Reply(authority=NS)), (query("c.b."), Reply(authority=NS)), True, id="referral"),
        pytest.param((query("a.b."), Reply(authority=NS)), (query("a.b."), NXDOMAIN), False, id="referral, NXDOMAIN"),
        pytest.param(
            (query("a.b."), rcode_only(Rcode.SERVFAIL)),
            (query("c.", "MX"), rcode_only(Rcode.REFUSED)),
            True,
            id="errors",
        ),
        pytest.param((query("a.b."), Reply(answer=A)), (query("a.b."), Reply()), False, id="classes"),
    ],
)
def test_which_replies_have_the_same_account(one: tuple[Query, Reply], other: tuple[Query, Reply], same: bool) -> None:
    """Replies of one class share an account if the class ignores their differences in name and type."""
    found = limiter()
    assert (found.account(*one) == found.account(*other)) is same


def test_errors_before_any_plugin_share_the_account_of_errors() -> None:
    """A reply to a malformed packet debits the same account as SERVFAIL."""
    found = limiter()
    assert found.account(query("a.b."), rcode_only(Rcode.SERVFAIL)) == found.error_account


@pytest.mark.parametrize(
    ("options", "one", "other", "same"),
    [
        ("", "192.0.2.1", "192.0.2.254", True),
        ("", "192.0.2.1", "192.0.3.1", False),
        ("ipv4-prefix-length 32", "192.0.2.1", "192.0.2.2", False),
        ("ipv4-prefix-length 23", "192.0.2.1", "192.0.3.1", True),
        ("ipv4-prefix-length 1", "1.2.3.4", "127.9.9.9", True),
        ("ipv4-prefix-length 1", "1.2.3.4", "128.9.9.9", False),
        ("", "2001:db8:0:1::1", "2001:db8:0:ff::1", True),
        ("", "2001:db8:0:100::1", "2001:db8::1", False),
        ("ipv6-prefix-length 128", "2001:db8::1", "2001:db8::2", False),
        ("", "::ffff:192.0.2.1", "192.0.2.7", True),
    ],
)
def test_clients_of_one_network_share_an_account(options: str, one: str, other: str, same: bool) -> None:
    """An IPv4-mapped address counts as an IPv4 address."""
    found = limiter(f"responses-per-second 1\n {options}")
    account = found.account(query("a.b."), Reply(answer=A))
    assert found.debit(one, account) is Verdict.SEND
    assert (found.debit(other, account) is Verdict.DROP) is same


def test_each_class_has_its_rate() -> None:
    """A class with the rate 0 is not limited."""
    found = limiter("responses-per-second 1\n nxdomains-per-second 3\n errors-per-second 0")
    sent = {}
    for name, reply in {"a": Reply(answer=A), "n": NXDOMAIN, "e": rcode_only(Rcode.SERVFAIL)}.items():
        account = found.account(query("a.b."), reply)
        sent[name] = sum(found.debit("192.0.2.1", account) is Verdict.SEND for _ in range(9))
    assert sent == {"a": 1, "n": 3, "e": 9}


def test_queries_of_a_network() -> None:
    """With `requests-per-second`, queries of a network over the limit are dropped. Later, queries are
    admitted again.
    """
    clock, counters = Clock(), Counters()
    found = limiter("requests-per-second 2\n slip-ratio 1\n window 1", clock=clock, counters=counters)
    assert [found.admits(f"192.0.2.{number}") for number in range(4)] == [True, True, False, False]
    assert found.admits("192.0.9.1")
    clock.turn(3)
    assert found.admits("192.0.2.1")
    assert counted(counters)["svcdns_rrl_limited_total", "dns://:53", "request", "drop"] == 2
    assert counted(counters)["coredns_rrl_requests_exceeded_total", "192.0.2.2"] == 1


def test_without_a_rate_for_queries_all_are_admitted() -> None:
    """By default, queries are not counted."""
    found = limiter()
    assert all(found.admits("192.0.2.1") for _ in range(100))


def test_report_only() -> None:
    """With `report-only`, replies over the limit are counted and sent."""
    counters = Counters()
    found = limiter("responses-per-second 1\n requests-per-second 1\n report-only", counters=counters)
    account = found.account(query("a.b."), Reply(answer=A))
    assert [found.debit("192.0.2.1", account) for _ in range(3)] == [Verdict.SEND] * 3
    assert [found.admits("192.0.2.1") for _ in range(3)] == [True] * 3
    assert counted(counters) == {
        ("coredns_rrl_responses_exceeded_total", "192.0.2.1"): 2,
        ("coredns_rrl_requests_exceeded_total", "192.0.2.1"): 2,
        ("svcdns_rrl_limited_total", "dns://:53", "response", "report"): 2,
        ("svcdns_rrl_limited_total", "dns://:53", "request", "report"): 2,
    }


def test_the_number_of_label_values_is_bounded() -> None:
    """Addresses beyond MAX_CLIENTS are counted together, so a flood of addresses adds no time series."""
    counters = Counters()
    found = limiter("responses-per-second 1\n slip-ratio 1", counters=counters)
    account = found.account(query("a.b."), Reply(answer=A))
    for number in range(MAX_CLIENTS + 200):
        for _ in range(2):
            found.debit(f"10.{number >> 8}.{number & 255}.1", account)
    series = {key[1]: value for key, value in counted(counters).items() if key[0].startswith("coredns_rrl")}
    assert len(series) == MAX_CLIENTS + 1
    assert series[OTHER_CLIENTS] == 200
    assert counted(counters)["svcdns_rrl_limited_total", "dns://:53", "response", "truncate"] == MAX_CLIENTS + 200


def test_zones() -> None:
    """The limiter covers the names in the plugin's zones."""
    found = limiter()
    assert [found.covers(name) for name in (b"\1a\7example\3org\0", b"\7example\3org\0", b"\3org\0")] == [
        True,
        True,
        False,
    ]
