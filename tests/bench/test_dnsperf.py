"""dnsperf's command line and summary."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.dnsperf import BrokenError, Figures, Load, check, parse_summary

SUMMARY = """\
DNS Performance Testing Tool
[Status] Testing complete (time limit)

Statistics:

  Queries sent:         29874
  Queries completed:    29870 (99.99%)
  Queries lost:         4 (0.01%)

  Response codes:       NOERROR 18670 (62.50%), NXDOMAIN 11200 (37.50%)
  Average packet size:  request 52, response 80
  Run time (s):         2.000142
  Queries per second:   14934.0

  Average Latency (s):  0.000312 (min 0.000021, max 0.004100)
"""


def test_the_summary_is_parsed() -> None:
    found = parse_summary(SUMMARY)
    assert found == Figures(29874, 29870, 4, 2.000142, {"NOERROR": 18670, "NXDOMAIN": 11200})
    assert found.rate == pytest.approx(14933.9, abs=0.1)
    assert found.share("NXDOMAIN") == pytest.approx(0.375, abs=0.001)
    assert found.share("REFUSED") == 0.0


def test_output_without_a_summary() -> None:
    with pytest.raises(BrokenError, match="unable to open"):
        parse_summary("Error: unable to open ./queries")


@pytest.mark.parametrize(
    ("load", "words"),
    [
        pytest.param(Load(seconds=3), "-c 128 -T 1 -l 3", id="time"),
        pytest.param(Load(seconds=0), "-c 128 -T 1 -n 1", id="the input once"),
        pytest.param(Load(seconds=2, rate=5000), "-l 2 -Q 5000", id="rate"),
        pytest.param(Load(seconds=2, outstanding=5000, clients=64), "-c 64 -T 1 -l 2 -q 5000", id="outstanding"),
        pytest.param(Load(seconds=2, mode="tcp"), "-l 2 -m tcp", id="TCP"),
        pytest.param(Load(seconds=2, mode="dot"), "-l 2 -m dot", id="TLS"),
    ],
)
def test_the_command_line_of_a_load(load: Load, words: str) -> None:
    command = " ".join(load.command(5300, Path("queries")))
    assert command.startswith("dnsperf -s 127.0.0.1 -p 5300 -d queries ")
    assert command.endswith(words)


@pytest.mark.parametrize(
    ("figures", "nxdomain", "message"),
    [
        pytest.param(Figures(100, 0, 0, 1.0, {}), 0.0, "0 of 100", id="no answer"),
        pytest.param(Figures(100, 90, 10, 1.0, {"NOERROR": 90}), 0.0, "10 of 100", id="lost"),
        pytest.param(Figures(100, 100, 0, 1.0, {"NOERROR": 50, "SERVFAIL": 50}), 0.0, "SERVFAIL", id="another code"),
        pytest.param(
            Figures(100, 100, 0, 1.0, {"NOERROR": 100}),
            0.5,
            "50.0% of the responses should be NOERROR",
            id="too few NXDOMAIN",
        ),
    ],
)
def test_a_broken_run_fails_the_check(figures: Figures, nxdomain: float, message: str) -> None:
    with pytest.raises(BrokenError, match=message):
        check(figures, nxdomain)


def test_a_run_with_few_lost_queries_passes_the_check() -> None:
    good = Figures(1000, 999, 1, 1.0, {"NOERROR": 625, "NXDOMAIN": 374})
    check(good, 0.375)
    assert good.lost
