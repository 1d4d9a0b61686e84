"""The Corefile that served last, in the place of one that cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from svcdns.control.configuration import prepare
from svcdns.control.last_good_corefile import LastGood
from svcdns.control.state_folder import FALLBACK, FILE
from svcdns.errors import SvcdnsError
from svcdns.telemetry.counters import Counters

WRONG = SvcdnsError("Corefile:1:1: wrong")


def test_what_served_serves_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Loudly, until another one is kept; also for a process that comes later."""
    (tmp_path / "Corefile").write_text("a.test:1053 {\n whoami\n}\n")
    setup = prepare(str(tmp_path / "Corefile"), 53)
    counters = Counters()
    LastGood(str(tmp_path / "state"), counters).keep(setup)
    later = LastGood(str(tmp_path / "state"), counters)
    found = later.instead(WRONG)
    assert found is not None
    assert found.listen == [("", 1053, "udp"), ("", 1053, "tcp")]
    assert later.serves
    assert counters.values[counters.cell(FALLBACK)] == 1
    assert "Corefile:1:1: wrong; serving the one that was good last" in caplog.text
    later.keep(setup)
    assert not later.serves
    assert counters.values[counters.cell(FALLBACK)] == 0


def test_nothing_of_use(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No folder, an empty one, a damaged file."""
    assert LastGood(None, Counters()).instead(WRONG) is None
    state = LastGood(str(tmp_path), Counters())
    assert state.instead(WRONG) is None
    assert not caplog.records
    (tmp_path / FILE).write_bytes(b"damaged")
    assert state.instead(WRONG) is None
    assert "the last good Corefile cannot be used" in caplog.text
    assert not state.serves
