"""A bench run: rows, files and failures."""

from __future__ import annotations

import pytest

from bench import pacing
from bench.__main__ import options_of, parser, report
from bench.cluster import Cluster
from bench.dnsperf import BrokenError, Figures
from bench.queries import hits
from bench.results import Target
from bench.run import Options, Run


def test_one_broken_server_does_not_end_a_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    with Run(Options(["svcdns", "nsd"])) as run:
        row = run.row("hit", "CPU", "µs")
        for name in ("svcdns", "nsd"):
            with run.catching_failures("hit", name):
                if name == "svcdns":
                    raise BrokenError("no answers")
                row.add(name, 1.0)
        assert run.broken == ["hit, svcdns: no answers"]
        assert row.figures == {"nsd": [1.0]}
        assert report(run)["broken"] == run.broken
    assert "no answers" in capsys.readouterr().err


@pytest.mark.parametrize(("smoke", "breaks"), [(False, True), (True, False)], ids=["measured", "smoke"])
def test_losses_alone_do_not_break_a_smoke_run(smoke: bool, breaks: bool) -> None:
    """In a run that is not a smoke run, lost queries are a failure."""
    figures = Figures(100, 90, 10, 1.0, {"NOERROR": 90})
    with Run(Options(["svcdns"], smoke=smoke)) as run:
        with run.catching_failures("hit", "svcdns"):
            run.check(figures, 0.0)
        assert bool(run.broken) is breaks


def test_rows_beside_a_neighbour_are_rows_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second part of a scenario is left out where no C program can be compiled."""
    monkeypatch.setattr(pacing, "why_unavailable", lambda: "")
    with Run(Options(["svcdns"])) as run:
        row = run.row("hit", "CPU", "µs", Target(1.3, "nsd"))
        first, second = run.parts([row], targets=True)
        assert (first[0], second[0]) == ([row], [row.beside_neighbour])
        assert second[0][0].targets == row.targets
        assert [one.measure for one in run.rows] == ["CPU", "CPU, beside a neighbour that empties the caches"]
        monkeypatch.setattr(pacing, "why_unavailable", lambda: "no compiler")
        assert len(run.parts([row])) == 1


def test_query_files_are_deleted_after_the_run() -> None:
    with Run(Options(["svcdns"])) as run:
        path = run.queries("hit", hits(Cluster(5), 3).lines)
        assert len(path.read_text().splitlines()) == 3
    assert not path.exists()


def test_peers_that_are_not_installed_are_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line on standard error names each peer that is not installed. svcdns always takes part."""
    monkeypatch.delenv("COREDNS", raising=False)
    assert options_of(parser().parse_args(["--peers", "none"])).servers == ["svcdns"]
    found = options_of(parser().parse_args(["--peers", "coredns", "--server-cores", "0,1", "--smoke"]))
    assert found.servers == ["svcdns"]
    assert found.cores.server == (0, 1)
    assert found.smoke
    assert capsys.readouterr().err.count("leaving out coredns") == 1
