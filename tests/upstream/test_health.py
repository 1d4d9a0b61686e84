"""The health of one upstream server."""

from __future__ import annotations

from svcdns.upstream.health import CIRCUIT_THRESHOLD, MIN_SLOW_AFTER, SILENCE, Health


def test_the_circuit() -> None:
    """After `CIRCUIT_THRESHOLD` failed queries in a row, the circuit opens: the server counts as failed. Any reply
    closes it.
    """
    health = Health(2, checked=True)
    for _ in range(CIRCUIT_THRESHOLD - 1):
        health.query_failed()
    assert (health.circuit_open, health.usable) == (False, True)
    assert health.reply_received(1.0)
    assert not health.reply_received(2.0)
    for _ in range(CIRCUIT_THRESHOLD):
        health.query_failed()
    assert (health.circuit_open, health.usable, health.down) == (True, False, False)
    assert health.reply_received(3.0)
    assert health.usable


def test_a_server_is_down_after_too_many_failed_health_checks() -> None:
    """`max_fails` is the permitted number of failed checks in a row."""
    health = Health(2, checked=True)
    health.failed_checks = 2
    assert (health.down, health.usable) == (False, True)
    health.failed_checks = 3
    assert (health.down, health.usable, health.circuit_open) == (True, False, False)
    health.reply_received(1.0)
    assert health.usable


def test_never_left_out_without_health_checks() -> None:
    """Without health checks, nothing would find out that the server works again."""
    for health in (Health(0, checked=True), Health(2, checked=False)):
        health.failed_checks = 99
        for _ in range(99):
            health.query_failed()
        assert (health.usable, health.down, health.circuit_open) == (True, False, False)


def test_slow_after_follows_the_usual_latency() -> None:
    """`slow_after` is the time after which the server counts as slow. It has bounds."""
    health = Health(2, checked=True)
    assert health.slow_after == SILENCE
    for _ in range(100):
        health.query_answered(0.0, 0.001)
    assert health.slow_after == MIN_SLOW_AFTER
    for number in range(100):
        health.query_answered(0.0, 0.03 if number % 2 else 0.04)
    assert 0.04 < health.slow_after < 0.08
    for _ in range(100):
        health.query_answered(0.0, 0.5)
    assert health.slow_after == SILENCE


def test_silent() -> None:
    """A server is silent since a query if no reply of any kind came after the query."""
    health = Health(2, checked=True)
    assert health.silent(0.0)
    health.reply_received(5.0)
    assert (health.silent(4.0), health.silent(6.0)) == (False, True)
