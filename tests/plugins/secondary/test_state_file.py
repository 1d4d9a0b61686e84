"""Zones in the state folder (docs/behaviour/plugins.md#secondary)."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from svcdns.plugins.secondary import gather, state_file
from svcdns.plugins.secondary.options import Options, Rule
from svcdns.plugins.secondary.state_file import StateFile, StateFileError, path_of, read
from svcdns.wire import names
from svcdns.zones.content import decode, encode
from tests.plugins.secondary.test_handler import APEX, Worker, records
from tests.support.primary import primary, zone_script

LOG = logging.getLogger("svcdns")
PRIMARIES = (("192.0.2.1", 53),)


def content(serial: int = 1) -> bytes:
    """Returns a version of the zone, which expires after 1000 seconds."""
    return encode(records(serial)[0], records(serial), 0)


async def until(holds: Callable[[], object]) -> None:
    """Waits until a condition holds."""
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


async def saved(folder: Path, payload: bytes, zone: bytes = APEX) -> Path:
    """Writes the file of a zone."""
    path = path_of(str(folder), zone)
    file = StateFile(path, zone, PRIMARIES, LOG)
    file.save(payload, decode(payload).soa)
    await until(path.exists)
    file.stop()
    return path


def gathered(folder: Path, *, members: tuple[str, ...] | None = None) -> dict[str, bytes]:
    """Returns what a start reads from the folder."""
    return gather(Options((Rule(("example.org.",), PRIMARIES, members),), state=str(folder)), {})


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        pytest.param(lambda data: data[:-1], "its checksum is wrong", id="cut off"),
        pytest.param(lambda data: data[:20], "is damaged", id="a part of the head"),
        pytest.param(lambda _data: b"", "is damaged", id="empty"),
        pytest.param(lambda data: b"x" + data[1:], "its checksum is wrong", id="another program"),
        pytest.param(lambda data: data[:-9] + b"x" + data[-8:], "its checksum is wrong", id="another octet"),
    ],
)
async def test_a_damaged_file_is_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes], error: str
) -> None:
    path = await saved(tmp_path, content())
    path.write_bytes(damage(path.read_bytes()))
    assert gathered(tmp_path) == {}
    assert error in caplog.text


async def test_the_file_of_another_zone(tmp_path: Path) -> None:
    path = await saved(tmp_path, content())
    with pytest.raises(StateFileError, match="another zone"):
        read(path, names.from_text("example.net."))
    path.unlink()
    path.mkdir()
    with pytest.raises(StateFileError, match="is a directory"):
        read(path, APEX)


async def test_confirmations_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the time changes in the file. A file of another version is written anew."""
    path = await saved(tmp_path, content())
    os.utime(path, (1, 1))
    inode = path.stat().st_ino
    now = time.time()
    monkeypatch.setattr(state_file.time, "time", lambda: now + 500)  # type: ignore[attr-defined]
    file = StateFile(path, APEX, PRIMARIES, LOG)
    assert await file.age(1) == pytest.approx(500, abs=60)
    assert await file.age(2) == 0, "another version"
    file.confirm(content(), records()[0])
    await until(lambda: path.stat().st_mtime > 1)
    assert await file.age(1) < 60
    assert path.stat().st_ino == inode
    assert gathered(tmp_path)
    other = StateFile(path, APEX, PRIMARIES, LOG)
    other.confirm(content(2), records(2)[0])
    await until(lambda: gathered(tmp_path) == {"kept example.org.": content(2)})
    other.remove()
    await until(lambda: not path.exists())


async def test_a_folder_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "zones").write_text("a file")
    file = StateFile(path_of(str(tmp_path), APEX), APEX, PRIMARIES, LOG)
    file.save(content(), records()[0])
    await until(lambda: caplog.messages)
    assert caplog.messages[0].startswith("cannot save a zone zone=example.org. path=")
    file.stop()


async def test_a_worker_serves_the_zone_of_an_earlier_start(tmp_path: Path) -> None:
    """The zone is served before a primary server answers, and a transfer replaces the file."""
    present = [records(2, "10.0.0.2")]
    async with primary(zone_script("example.org.", lambda: present[0])) as (host, port):
        worker = Worker(f"state {tmp_path}", primaries=f"{host}:{port}", kept=content())
        assert worker.ask("www.example.org.") == ["NOERROR", "www.example.org. 60 IN A 10.0.0.1"]
        worker.plugin.start()
        await until(lambda: worker.ask("www.example.org.")[-1].endswith("10.0.0.2"))
        path = path_of(str(tmp_path), APEX)
        await until(path.exists)
        found = read(path, APEX)
        assert found is not None
        assert found.saved.payload == encode(present[0][0], present[0], 0)
        assert worker.data["kept example.org."] == b"", "the earlier content takes no more memory"
        worker.plugin.stop()
