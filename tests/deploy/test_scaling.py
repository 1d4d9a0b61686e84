"""tools/scaling.py, and its tables and figures on docs/scaling.md."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Final

import pytest

from svcdns.inspection.size import estimate
from tools import scaling
from tools.scaling import NODES, TABLES, Assumed, Measured, Plan

PAGE: Final = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
PLANS: Final = [Plan(nodes, Assumed(), Measured()) for nodes in NODES]


def values(heading: str) -> list[float]:
    """Returns the numbers in the second column of the first table below a heading of the page."""
    table = PAGE.partition(f"\n## {heading}\n")[2].partition("\n| ---")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| [^|]+ \| ([\d.,]+) \|", table, re.MULTILINE)
    return [float(row.replace(",", "")) for row in rows]


@pytest.mark.parametrize("name", TABLES)
def test_the_page_has_the_tables_of_the_script(name: str) -> None:
    assert scaling.table(name, PLANS) in PAGE, "run `python -m tools.scaling`, and copy the table to docs/scaling.md"


def test_the_summary_has_the_results() -> None:
    few, plan, _ = PLANS
    assert f"With 500 nodes, {'six' if few.replicas(few.queries) == 6 else 'other'} replicas" in PAGE
    assert f"from {plan.replicas(plan.queries)} to {plan.replicas(plan.central)}," in PAGE
    assert f"the API servers would send {plan.api_traffic(plan.nodes) / 1e9:.1f} GB a second" in PAGE
    assert plan.limit == 170


def test_the_page_has_the_estimates_of_the_command_check() -> None:
    limits = [estimate(round(plan.services), round(plan.pods)).limit >> 20 for plan in PLANS]
    assert f"{limits[1]} MiB with 5,000 nodes and {limits[2]} MiB with 15,000 nodes" in PAGE


def test_the_page_has_the_measured_figures_and_the_assumptions() -> None:
    assert values("Measured figures") == list(dataclasses.astuple(Measured()))
    assert values("Assumptions") == list(dataclasses.astuple(Assumed()))


@pytest.mark.parametrize("nodes", [1, 30, 500, 777, 5_000, 15_000])
@pytest.mark.parametrize("zones", [2, 3, 5])
def test_the_loss_of_a_zone_leaves_enough_replicas(nodes: int, zones: int) -> None:
    plan = Plan(nodes, Assumed(zones=zones), Measured())
    for load in (plan.queries, plan.central):
        assert load <= plan.replicas_left(load) * plan.measured.rate
        assert plan.replicas(load) >= zones


def test_a_small_cluster_by_hand() -> None:
    """2 nodes, 20 Pods and 10 Services: 100 queries a second, of which 10 are forwarded for 100 µs."""
    assumed = Assumed(pods_per_node=10, services_per_node=5, forwarded_share=0.1, names_per_node=60, absent_per_node=5)
    plan = Plan(2, assumed, Measured(query_us=10, forwarded_us=100, event_us=0))
    assert plan.queries == 100
    assert plan.endpoints == 2
    assert plan.cpu(plan.queries) == pytest.approx(100 / 3 * 19 / 1e6)
    assert plan.missed == pytest.approx(60 / 30 + 5 / 5)
    assert plan.central == pytest.approx(6)
    assert plan.event_octets == 1_243 + 2 * 262
    assert plan.memory == pytest.approx(53 + (10 * (1_300 + 69) + 10_020 * 550) / 2**20)


def test_the_measured_memory_is_the_calculated_one() -> None:
    """docs/performance.md has 89 MiB for 10,000 Services of 10 endpoints with 33,000 stored answers."""
    plan = Plan(1, Assumed(services_per_node=10_000, pods_per_node=100_000), Measured())
    assert plan.memory + (33_000 - 30_000) * plan.measured.answer_octets / 2**20 == pytest.approx(89, abs=1)


def test_a_cache_forwards_at_most_what_it_receives() -> None:
    assert Plan(1, Assumed(pods_per_node=1, queries_per_pod=1), Measured()).missed == 1


def test_the_options_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert scaling.main(["--nodes", "10", "--pods-per-node", "7"]) == 0
    assert "| Pods | 70 |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        scaling.main(["--zones", "1"])
