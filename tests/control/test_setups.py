"""Setups: from the Corefile, from the last good Corefile, and with the data of plugins."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from svcdns.control import setups
from svcdns.control.last_good_corefile import LastGoodCorefile
from svcdns.control.setups import Options, Setups
from svcdns.corefile.parser import parse
from svcdns.errors import SvcdnsError
from svcdns.process.blocking_io import BlockingCalls
from svcdns.telemetry.counters import Counters

GOOD = ". {\n whoami\n}\n"
BAD = ". {\n nonsense\n}\n"


def setups_of(folder: Path, text: str, *, again: bool = False, state: Path | None = None) -> Setups:
    """Returns the setups of a control process with this Corefile."""
    (folder / "Corefile").write_text(text)
    calls = BlockingCalls(logging.getLogger("svcdns"))
    options = Options(str(folder / "Corefile"), 53, quiet=True, again=again, state=str(state) if state else None)
    return Setups(options, calls, LastGoodCorefile(options.state, Counters(), calls))


async def test_the_first_setup(tmp_path: Path) -> None:
    """The setup has the contents of the plugins' files."""
    (tmp_path / "hosts").write_text("10.0.0.1 a\n")
    setup = await setups_of(tmp_path, f". {{\n hosts {tmp_path}/hosts\n whoami\n}}\n").first()
    assert [key.plugin for key in setup.data] == ["hosts"]


async def test_a_corefile_that_has_been_read_already(tmp_path: Path) -> None:
    """The first setup uses the Corefile in `loaded`, or its error. Later loads read the file."""
    calls = BlockingCalls(logging.getLogger("svcdns"))
    (tmp_path / "Corefile").write_text(BAD)
    loaded = parse(GOOD, "Corefile", environ={})
    for found in (loaded, SvcdnsError("no Corefile")):
        options = Options(str(tmp_path / "Corefile"), 53, quiet=True, loaded=found)
        setups = Setups(options, calls, LastGoodCorefile(None, Counters(), calls))
        if isinstance(found, SvcdnsError):
            with pytest.raises(SvcdnsError, match="no Corefile"):
                await setups.first()
        else:
            assert (await setups.first()).written == loaded
        assert (await setups.load()).blocks[0].directives[0].name.text == "nonsense"


async def test_a_corefile_that_is_unusable(tmp_path: Path) -> None:
    """At the first start there is no last good Corefile, so SvcdnsError is raised."""
    with pytest.raises(SvcdnsError, match="nonsense"):
        await setups_of(tmp_path, BAD).first()


async def test_a_restart_waits_for_a_usable_corefile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Meanwhile the workers serve with the chains that they have."""
    monkeypatch.setattr(setups, "RETRY", 0.001)
    waiting = asyncio.create_task(setups_of(tmp_path, BAD, again=True).first())
    async with asyncio.timeout(10):
        while "the workers serve the chains that they have" not in caplog.text:
            await asyncio.sleep(0.001)
    assert not waiting.done()
    (tmp_path / "Corefile").write_text(GOOD)
    assert (await asyncio.wait_for(waiting, 10)).plans


@pytest.mark.parametrize("usable", [True, False])
async def test_the_last_good_corefile(tmp_path: Path, caplog: pytest.LogCaptureFixture, *, usable: bool) -> None:
    """The last good Corefile replaces an unusable Corefile, unless its options cannot be used either."""
    saved = GOOD if usable else ". {\n ready wrong:address:here\n}\n"
    state = LastGoodCorefile(str(tmp_path / "state"), Counters(), BlockingCalls(logging.getLogger("svcdns")))
    await state.save(parse(saved, "Corefile", environ={}))
    first = setups_of(tmp_path, BAD, state=tmp_path / "state").first()
    if usable:
        assert (await first).plans
        assert "serving the last good Corefile" in caplog.text
        return
    with pytest.raises(SvcdnsError, match="nonsense"):
        await first
    assert "the last good Corefile cannot be used" in caplog.text
