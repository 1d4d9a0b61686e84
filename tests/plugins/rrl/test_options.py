"""The options of *rrl* (docs/plugins/rrl.md)."""

from __future__ import annotations

from typing import Any

import pytest

from svcdns.plugins.rrl.options import ReplyClass
from tests.support import world


def rates(usual: float, **others: float) -> tuple[float, ...]:
    """Returns the allowances of all classes."""
    return tuple(others.get(kind.name, usual) for kind in ReplyClass)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        pytest.param(
            "rrl",
            {
                "zones": (".",), "window": 15.0, "ipv4_prefix": 24, "ipv6_prefix": 56, "allowances": rates(0),
                "requests": 0.0, "slip_ratio": 0, "table_size": 100_000, "report_only": False, "warnings": (),
            },
            id="defaults",
        ),
        pytest.param("rrl A.B c.d", {"zones": ("a.b.", "c.d.")}, id="zones"),
        pytest.param("rrl {\n responses-per-second 10\n}", {"allowances": rates(10)}, id="one rate for all classes"),
        pytest.param(
            "rrl {\n nxdomains-per-second 1\n responses-per-second 10\n nodata-per-second 2\n"
            " errors-per-second 0\n referrals-per-second .5\n}",
            {"allowances": rates(10, NXDOMAIN=1, NODATA=2, ERROR=0, REFERRAL=0.5)},
            id="a rate for each class",
        ),
        pytest.param(
            "rrl {\n window 1.5\n ipv4-prefix-length 32\n ipv6-prefix-length 1\n requests-per-second 1e3\n"
            " slip-ratio 10\n max-table-size 7\n report-only\n}",
            {
                "window": 1.5, "ipv4_prefix": 32, "ipv6_prefix": 1, "requests": 1000.0, "slip_ratio": 10,
                "table_size": 7, "report_only": True,
            },
            id="the rest",
        ),
    ],
)  # fmt: skip
def test_reads(text: str, fields: dict[str, Any]) -> None:
    """The defaults are those of CoreDNS's external plugin."""
    options = world.options("rrl", text)
    assert {name: getattr(options, name) for name in fields} == fields


def test_words_without_effect() -> None:
    """A second directive, and a word that is not a zone, each cause a warning."""
    warnings = world.options("rrl", "rrl a..b\nrrl {\n window 1\n}").warnings
    assert [line.partition(" - ")[2] for line in warnings] == [
        "'a..b' is not a zone and is ignored; no zone is left",
        "only the first 'rrl' of a server block is used; this one is ignored",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("windw 1", "unknown property 'windw' (did you mean 'window'?)", id="unknown"),
        pytest.param("window 0", "window must be greater than zero", id="no window"),
        pytest.param("window x", "'x' is not a number", id="no number"),
        pytest.param("window inf", "'inf' is not a number", id="not finite"),
        pytest.param("window 1 2", "Wrong argument count: '2' behind 'window'", id="two words"),
        pytest.param("errors-per-second", "Wrong argument count", id="no word"),
        pytest.param("errors-per-second -1", "'-1' is negative", id="negative"),
        pytest.param("requests-per-second -1", "'-1' is negative", id="negative requests"),
        pytest.param("ipv4-prefix-length 33", "33 is out of range; 1 to 32 was expected", id="prefix"),
        pytest.param("ipv6-prefix-length 0", "0 is out of range; 1 to 128 was expected", id="prefix of IPv6"),
        pytest.param("slip-ratio 11", "11 is out of range; 0 to 10 was expected", id="slip"),
        pytest.param("max-table-size -1", "-1 is out of range", id="size"),
        pytest.param("report-only yes", "Wrong argument count: 'yes' behind 'report-only'", id="a word too many"),
    ],
)
def test_rejects(text: str, message: str) -> None:
    assert message in world.rejection("rrl", f"rrl {{\n {text}\n}}")
