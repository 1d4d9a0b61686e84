"""The metrics of *sign*, and its absence from the plugin chain."""

from __future__ import annotations

from collections.abc import Callable

from svcdns.plugins.sign import Sign
from svcdns.plugins.sign.state import State
from svcdns.telemetry.counters import Counters
from tests.support import world

OPTIONS = world.options("sign", "sign db example.org {\n directory /out\n}")
LABELS = ("/out/db.example.org.signed", "example.org.")


def test_metrics_of_the_state_that_control_has_sent() -> None:
    calls: list[Callable[[bytes], None]] = []
    counters = Counters()
    plugin = Sign(OPTIONS, world.environment(counters=counters, on_data=lambda _plugin, _key, call: calls.append(call)))
    plugin.tick()
    assert world.counted(counters) == {}
    ((_, payload),) = State(failed=True, expiration=1_800_000_000).data(OPTIONS.zones[0]).items()
    calls[0](payload)
    plugin.tick()
    assert world.counted(counters) == {
        ("svcdns_sign_failed", *LABELS): 1.0,
        ("svcdns_sign_expiration_timestamp_seconds", *LABELS): 1.8e9,
    }
    plugin.stop()
    assert world.counted(counters) == {}


def test_the_state_before_the_chain_was_built() -> None:
    counters = Counters()
    ((key, payload),) = State(failed=False, expiration=7).data(OPTIONS.zones[0]).items()
    plugin = Sign(OPTIONS, world.environment(counters=counters, data=lambda _plugin, one: {key: payload}[one]))
    plugin.tick()
    assert world.counted(counters)["svcdns_sign_expiration_timestamp_seconds", *LABELS] == 7.0


def test_the_directive_has_a_warning_without_a_key() -> None:
    assert "there is no 'key'" in Sign.settings(OPTIONS).warnings[0]
