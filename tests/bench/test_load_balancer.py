"""Choice of a replica by the bench's load balancer."""

from __future__ import annotations

from bench.load_balancer import PROPAGATION, LoadBalancer, Replica


def test_readiness_takes_effect_after_a_delay() -> None:
    """A change of readiness that is reversed within PROPAGATION seconds has no effect."""
    replica = Replica(1, 2)
    replica.update(True, 10.0)
    assert not replica.ready
    replica.update(True, 10.0 + PROPAGATION)
    assert replica.ready
    replica.update(False, 20.0)
    replica.update(True, 20.1)
    replica.update(True, 20.1 + PROPAGATION)
    assert replica.ready


def test_round_robin_over_ready_replicas() -> None:
    one, two, away = Replica(1, 2, ready=True), Replica(3, 4, ready=True), Replica(5, 6)
    load_balancer = LoadBalancer([one, two, away])
    chosen = [load_balancer.choose() for _ in range(4)]
    assert chosen in ([one, two, one, two], [two, one, two, one])
    one.ready = two.ready = False
    assert load_balancer.choose() is None
