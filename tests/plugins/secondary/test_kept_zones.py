"""Zones that a start reads from the state folder (docs/behaviour/plugins.md#secondary)."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from svcdns.plugins.secondary import gather, state_file
from svcdns.plugins.secondary.options import Options, Rule
from svcdns.wire import names
from svcdns.zones.content import encode
from tests.plugins.secondary import test_catalog
from tests.plugins.secondary.test_state_file import PRIMARIES, content, gathered, saved
from tests.support import world


async def test_a_start_reads_what_was_saved(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A reload reads nothing, because the workers have newer contents."""
    assert gathered(tmp_path) == {}
    await saved(tmp_path, content(3))
    with caplog.at_level(logging.INFO):
        assert gathered(tmp_path) == {"kept example.org.": content(3)}
    assert "a saved zone is used zone=example.org. serial=3" in caplog.text
    assert gather(Options((Rule(("example.org.",), PRIMARIES),), state=str(tmp_path)), {"x": b""}) == {}
    assert gather(Options((Rule(("example.org.",), (("192.0.2.9", 53),)),), state=str(tmp_path)), {}) == {}
    assert gather(Options((Rule(("example.org.",), PRIMARIES),)), {}) == {}


@pytest.mark.parametrize(("age", "is_used"), [(-50, True), (900, True), (1000, False)])
async def test_the_expire_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, age: float, *, is_used: bool
) -> None:
    """The time since the last confirmation counts, also while the server did not run."""
    await saved(tmp_path, content())
    now = time.time()
    monkeypatch.setattr(state_file.time, "time", lambda: now + age)  # type: ignore[attr-defined]
    assert bool(gathered(tmp_path)) is is_used
    assert ("has expired" in caplog.text) is not is_used


async def test_members_of_catalogs_are_read(tmp_path: Path) -> None:
    await saved(tmp_path, test_catalog.catalog(1, "a=one.test.", "b=two.test."))
    member = world.records("one.test. 60 IN SOA ns.one.test. root.one.test. 1 2 3 1000 5")
    await saved(tmp_path, encode(member[0], member, 0), names.from_text("one.test."))
    assert set(gathered(tmp_path, members=())) == {"kept example.org.", "kept one.test."}
