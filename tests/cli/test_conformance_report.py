"""The report of the conformance suite as table, JSON and JUnit."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from svcdns.cli import conformance_report as report
from svcdns.conformance.check import Result
from svcdns.conformance.checks import CHECKS
from svcdns.conformance.outcome import Failed, Outcome

RESULTS = (
    Result(CHECKS["clusterip-a"], Outcome.PASSED, 0.01),
    Result(
        CHECKS["isc-edns"],
        Outcome.FAILED,
        0.02,
        Failed("a. IN SOA", "an OPT record", "NOERROR\nanswer: none", "dig @h"),
    ),
    Result(CHECKS["nodata-protocol"], Outcome.FAILED, 0.03, Failed("b. IN A", "NODATA", "NXDOMAIN", "dig @h b.")),
    Result(CHECKS["change-created"], Outcome.SKIPPED, 0.0, note="no kubeconfig"),
)


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Output to a file has no colours."""
    report.show(RESULTS, "table", server="h port 53", zone="z.")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert [line.split()[:3] for line in out.splitlines()[2:6]] == [
        ["passed", "clusterip-a", "required"],
        ["failed", "isc-edns", "required"],
        ["failed", "nodata-protocol", "recommended"],
        ["skipped", "change-created", "required"],
    ]
    assert (
        "  query     a. IN SOA\n  expected  an OPT record\n  got       NOERROR\n            answer: none\n  see it    dig @h\n"
        in out
    )
    verdict = (
        "required: 1 passed, 1 failed, 1 skipped; recommended: 0 passed, 1 failed, 0 skipped; "
        "informational: 0 passed, 0 failed, 0 skipped"
    )
    assert out.splitlines()[-1] == f"DOES NOT CONFORM ({verdict})"


def test_json_has_the_results_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    report.show(RESULTS, "json", server="h port 53", zone="z.")
    found = json.loads(capsys.readouterr().out)
    assert (found["server"], found["zone"], found["conforms"]) == ("h port 53", "z.", False)
    assert [(c["id"], c["outcome"]) for c in found["checks"]] == [(r.check.name, r.outcome) for r in RESULTS]
    assert found["checks"][1]["failure"] == {
        "query": "a. IN SOA",
        "expected": "an OPT record",
        "got": "NOERROR\nanswer: none",
        "see": "dig @h",
    }
    assert found["checks"][3]["note"] == "no kubeconfig"


def test_only_a_required_check_is_a_failure_in_junit(capsys: pytest.CaptureFixture[str]) -> None:
    report.show(RESULTS, "junit", server="h port 53", zone="z.")
    suite = ElementTree.fromstring(capsys.readouterr().out)
    assert {key: suite.get(key) for key in ("tests", "failures", "skipped")} == {
        "tests": "4",
        "failures": "1",
        "skipped": "1",
    }
    cases = {case.get("name"): case for case in suite}
    assert cases["isc-edns"].findtext("failure", "").startswith("query: a. IN SOA\n")
    assert cases["nodata-protocol"].find("failure") is None
    assert "NXDOMAIN" in cases["nodata-protocol"].findtext("system-out", "")
    skipped = cases["change-created"].find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "no kubeconfig"


def test_progress_is_printed_only_on_terminals(capsys: pytest.CaptureFixture[str]) -> None:
    with report.Progress(list(CHECKS.values())) as progress:
        progress.say("making Services")
        progress.done(RESULTS[0])
    assert capsys.readouterr() == ("", "")
