"""Which replica is next."""

from __future__ import annotations

from bench.balancer import PROPAGATION, Balancer, Replica


def test_readiness_shows_after_a_while() -> None:
    """And a change back within that time never does."""
    replica = Replica(1, 2)
    replica.note(True, 10.0)
    assert not replica.ready
    replica.note(True, 10.0 + PROPAGATION)
    assert replica.ready
    replica.note(False, 20.0)
    replica.note(True, 20.1)
    replica.note(True, 20.1 + PROPAGATION)
    assert replica.ready


def test_the_ready_ones_take_turns() -> None:
    """And nobody is chosen where none is ready."""
    one, two, away = Replica(1, 2, ready=True), Replica(3, 4, ready=True), Replica(5, 6)
    balancer = Balancer([one, two, away])
    chosen = [balancer.choose() for _ in range(4)]
    assert chosen in ([one, two, one, two], [two, one, two, one])
    one.ready = two.ready = False
    assert balancer.choose() is None
