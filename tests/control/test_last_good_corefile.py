"""The last good Corefile: saving it, finding it again, and refusing a file that cannot be used."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import threading
from pathlib import Path

import msgspec
import pytest

from svcdns.control import last_good_corefile
from svcdns.control.last_good_corefile import FALLBACK, FILE, LastGoodCorefile, StateError, read, write
from svcdns.corefile.blocks import Corefile
from svcdns.corefile.parser import parse
from svcdns.errors import SvcdnsError
from svcdns.process.blocking_io import BlockingCalls
from svcdns.telemetry.counters import Counters

WRONG = SvcdnsError("Corefile:1:1: wrong")
COREFILE = parse(".:53 {\n whoami\n}\n", "Corefile", environ={})


def last_good(folder: Path | None, counters: Counters | None = None) -> LastGoodCorefile:
    """Returns the store of the last good Corefile for this state folder, as in a new process."""
    return LastGoodCorefile(
        str(folder) if folder else None, counters or Counters(), BlockingCalls(logging.getLogger("svcdns"))
    )


async def test_a_saved_corefile_serves_after_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The Corefile is wrong after the restart. An ERROR line and a metric report this until the next save."""
    counters = Counters()
    await last_good(tmp_path / "state").save(COREFILE)
    later = last_good(tmp_path / "state", counters)
    saved = await later.find()
    assert saved is not None
    assert saved.corefile == COREFILE
    later.takes_over(saved, WRONG)
    assert later.serves
    assert counters.values[counters.cell(FALLBACK)] == 1
    assert "serving the last good Corefile saved=" in caplog.text
    assert 'error="Corefile:1:1: wrong"' in caplog.text
    await later.save(COREFILE)
    assert not later.serves
    assert counters.values[counters.cell(FALLBACK)] == 0


async def test_no_saved_corefile(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a state folder or a saved file, `find` returns None. A damaged file is logged."""
    assert await last_good(None).find() is None
    assert await last_good(tmp_path).find() is None
    assert not caplog.records
    (tmp_path / FILE).write_bytes(b"damaged")
    assert await last_good(tmp_path).find() is None
    assert "the last good Corefile cannot be used" in caplog.text


async def test_a_folder_that_hangs_delays_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start continues after WRITE_WAIT seconds. When the folder answers again, only the newest Corefile remains in
    it.
    """
    monkeypatch.setattr(last_good_corefile, "WRITE_WAIT", 0.0)
    opened, written = threading.Event(), []

    def hang(_path: Path, corefile: Corefile, _now: float) -> None:
        opened.wait()
        written.append(corefile)

    monkeypatch.setattr(last_good_corefile, "write", hang)
    state = last_good(tmp_path)
    others = [parse(f".:{port} {{\n whoami\n}}\n", "Corefile", environ={}) for port in (54, 55)]
    for corefile in (COREFILE, *others):
        await state.save(corefile)
    assert written == []
    opened.set()
    async with asyncio.timeout(30):
        while len(written) < 2:
            await asyncio.sleep(0.001)
    assert written == [COREFILE, others[-1]]
    await state.stop()


async def test_a_file_that_hangs_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a time limit, the start continues without the file. A FIFO without a writer hangs."""
    monkeypatch.setattr(last_good_corefile, "READ_LIMIT", 0.01)
    os.mkfifo(tmp_path / FILE)
    assert await last_good(tmp_path).find() is None
    assert 'the last good Corefile cannot be used error="the last good Corefile: not done within 0.01 s"' in caplog.text
    (tmp_path / FILE).open("r+b", buffering=0).close()  # lets the thread go on


def test_a_file_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / FILE
    assert read(path) is None
    write(path, parse(".:54 {\n whoami\n}\n", "Corefile", environ={}), 1.0)
    write(path, COREFILE, 2.0)
    found = read(path)
    assert found is not None
    assert (found.time, found.corefile) == (2.0, COREFILE)
    assert [one.name for one in path.parent.iterdir()] == [FILE]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "damaged", id="empty"),
        pytest.param(b"x" * 100, "damaged", id="arbitrary octets"),
        pytest.param(
            hashlib.sha256(body := msgspec.msgpack.encode(["1"])).digest() + body, "another version", id="another shape"
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    """The file is damaged, or is of another version. The error has the file's name."""
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(StateError, match=f"{FILE} .*{reason}"):
        read(tmp_path / FILE)


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot write"):
        write(tmp_path / "file" / FILE, COREFILE, 0.0)
    with pytest.raises(StateError, match="cannot read"):
        read(tmp_path / "file" / FILE)
