"""`bench.replica_costs` with small clusters."""

from __future__ import annotations

import pytest

from bench import replica_costs
from bench.run import Options

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SETTLED", 0.2), ("NAMES", 20), ("CHANGES", 20)):
        monkeypatch.setattr(replica_costs, name, value)


def test_larger_clusters_cost_more() -> None:
    cores = Options(["svcdns"]).cores
    few, many = (replica_costs.start(services, 1, cores) for services in (10, 1_000))
    assert few["octets"] < many["octets"]
    assert few["cpu_s"] > 0
    assert 20 < few["mib"] < many["mib"] + 5


def test_a_change_has_the_whole_slice() -> None:
    cores = Options(["svcdns"]).cores
    one, hundred = (replica_costs.change(endpoints, cores)["octets"] for endpoints in (1, 100))
    assert one > 500
    assert hundred > one + 99 * 100


def test_a_node_local_cache_answers_from_its_cache() -> None:
    found = replica_costs.node_local(replica_costs.SVCDNS, Options(["svcdns"]).cores)
    for query in ("forwarded", "second query", "further query"):
        assert found[f"{query}, cpu_us"] >= 0
    assert found["cpu_s"] > 0
    assert found["mib"] > 20
