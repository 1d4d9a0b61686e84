"""Reading zone files that hang, that are too large, or that are not regular files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from svcdns.plugins.file import Options, gather, period, refresh
from svcdns.zones import file_reads
from svcdns.zones.content import data_key, decode, error_key
from tests.support import world

ZONE = "@ 60 IN SOA ns root 1 2 3 4 5\n@ 60 IN NS ns\n"


@pytest.fixture(autouse=True)
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets the time limit for files that hang to 0.2 seconds."""
    monkeypatch.setattr(file_reads, "READ_TIMEOUT", 0.2)


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Yields a function that makes a file. Opening this file hangs until the end of the test."""
    made: list[Path] = []

    def make(name: str) -> Path:
        path, other = tmp_path / name, tmp_path / f"{name}.other"
        os.mkfifo(path)
        os.link(path, other)
        made.append(other)
        return path

    yield make
    for other in made:
        os.close(os.open(other, os.O_RDWR | os.O_NONBLOCK))


def options(*paths: Path) -> Options:
    """Returns options with one zone for each file: `z0.test`, `z1.test` and so on."""
    found = world.options("file", "\n".join(f"file {path} z{number}.test" for number, path in enumerate(paths)))
    assert isinstance(found, Options)
    return found


def errors(data: dict[str, bytes], *paths: Path) -> list[str]:
    """Returns the error text of each file, in order."""
    return [data[error_key(str(path), f"z{number}.test.")].decode() for number, path in enumerate(paths)]


def test_files_that_hang_delay_the_others_by_one_deadline(
    tmp_path: Path, hanging: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Twenty files that hang delay a good file only until one common deadline. Each of them is logged, and read again
    later.
    """
    slow = [hanging(f"slow{number}") for number in range(20)]
    good = tmp_path / "good"
    good.write_text(ZONE)
    begin = time.monotonic()
    data = gather(options(*slow, good), {})
    assert time.monotonic() - begin < 20 * file_reads.READ_TIMEOUT
    assert errors(data, *slow, good) == [f"open {path}: not read within 0.2 s" for path in slow] + [""]
    assert data_key(str(good), "z20.test.") in data
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 20
    assert "the zone is SERVFAIL position=Corefile:2 zone=z0.test. retry_seconds=5" in caplog.text
    assert (period(options(*slow)), period(options(good))) == (5.0, 60.0)
    caplog.clear()
    assert errors(refresh(options(*slow, good), data), *slow, good)[0] == errors(data, *slow, good)[0]
    assert caplog.text == ""


def test_a_file_that_no_longer_hangs_is_served(hanging: Callable[[str], Path]) -> None:
    path = hanging("slow")
    data = gather(options(path), {})
    handle = os.open(path, os.O_WRONLY)
    os.write(handle, ZONE.encode())
    os.close(handle)
    deadline = time.monotonic() + 10
    while errors(data, path) != [""]:
        assert time.monotonic() < deadline, errors(data, path)
        data = refresh(options(path), data)
    assert data_key(str(path), "z0.test.") in data


def test_a_file_that_replaces_a_hanging_one_is_served(tmp_path: Path, hanging: Callable[[str], Path]) -> None:
    path = hanging("slow")
    data = gather(options(path), {})
    (tmp_path / "new").write_text(ZONE)
    (tmp_path / "new").rename(path)
    data = refresh(options(path), data)
    assert errors(data, path) == [""]
    assert period(options(path)) == 60.0


def test_an_included_file_that_hangs(tmp_path: Path, hanging: Callable[[str], Path]) -> None:
    hanging("included")
    path = tmp_path / "zone"
    path.write_text(f"{ZONE}$INCLUDE included\n")
    (found,) = errors(gather(options(path), {}), path)
    assert found == f"{path}:3:10: cannot include: open {tmp_path}/included: not read within 0.2 s"


@pytest.mark.parametrize("name", [pytest.param("zone", id="regular file"), pytest.param("/dev/zero", id="no end")])
def test_large_files_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A file above the size limit is not read to its end."""
    monkeypatch.setattr(file_reads, "READ_TIMEOUT", 10.0)
    monkeypatch.setattr(file_reads, "MAX_SIZE", 2000)
    path = tmp_path / name
    if path.is_relative_to(tmp_path):
        path.write_text(ZONE + ";" * 2000)
    assert errors(gather(options(path), {}), path) == [f"open {path}: more than 2000 octets"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"", "{path}: no SOA record for z0.test.", id="empty"),
        pytest.param(bytes(range(256)), "{path}:1:", id="no text"),
        pytest.param(None, "open {path}: Is a directory", id="a directory"),
    ],
)
def test_files_without_a_zone(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "zone"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    (found,) = errors(gather(options(path), {}), path)
    assert found.startswith(expected.format(path=path))
    assert found.isprintable()


def serial(data: dict[str, bytes], path: Path) -> int:
    """Returns the serial of the zone that is served."""
    return decode(data[data_key(str(path), "z0.test.")]).serial


def write(path: Path, serial_number: int, age: float) -> None:
    """Writes a zone file that was modified `age` seconds ago."""
    path.write_text(ZONE.replace(" 1 2 3", f" {serial_number} 2 3"))
    moment = time.time() - age
    os.utime(path, (moment, moment))


def test_a_file_that_is_being_written_does_not_replace_a_zone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that was modified a moment ago may be incomplete. It is read again after a second."""
    monkeypatch.setattr(file_reads, "SETTLE", 30.0)
    monkeypatch.setattr("svcdns.zones.file_reads.time.sleep", lambda _seconds: None)
    path = tmp_path / "zone"
    write(path, 1, age=60.0)
    data = gather(options(path), {})
    path.write_text("")
    for found in (gather(options(path), data), refresh(options(path), data)):
        assert (serial(found, path), errors(found, path)) == (1, [""])
    write(path, 2, age=0.0)
    assert serial(refresh(options(path), data), path) == 1
    assert (period(options(path)), caplog.text) == (1.0, "")
    write(path, 2, age=60.0)
    assert serial(refresh(options(path), data), path) == 2
    assert period(options(path)) == 60.0


def test_a_file_is_read_after_settle_seconds_without_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file then counts as complete."""
    monkeypatch.setattr(file_reads, "SETTLE", 30.0)
    path = tmp_path / "zone"
    write(path, 1, age=60.0)
    data = gather(options(path), {})

    def later(seconds: float) -> None:
        assert 20.0 < seconds <= 30.0
        os.utime(path, (0, 0))

    monkeypatch.setattr("svcdns.zones.file_reads.time.sleep", later)
    write(path, 2, age=1.0)
    assert serial(refresh(options(path), data), path) == 2


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        pytest.param("1\n", True, id="the rest of a line"),
        pytest.param("1\nb IN A 10.0.0.2\n", True, id="more lines"),
        pytest.param(None, False, id="another text with the same serial"),
    ],
)
def test_a_file_that_was_read_in_the_middle_of_a_write_is_read_again(
    tmp_path: Path, rest: str | None, *, expected: bool
) -> None:
    """At a start, only the first part of the file was there. The rest is read even if the serial is the same."""
    path = tmp_path / "zone"
    begin = ZONE + "a IN A 10.0.0.1"
    path.write_text(begin)
    data = gather(options(path), {})
    path.write_text(begin + rest if rest else begin.replace("10.0.0.1", "10.0.0.2"))
    os.utime(path, (0, 0))
    found = refresh(options(path), data)
    key = data_key(str(path), "z0.test.")
    assert (found[key] != data[key]) is expected
    assert refresh(options(path), found) == found


def aged(path: Path, age: float) -> None:
    """Sets the time of the last write to `age` seconds ago."""
    moment = time.time() - age
    os.utime(path, (moment, moment))


def test_a_file_that_is_open_for_writing_at_a_start_is_read_again(tmp_path: Path) -> None:
    """The part that is there is served. The whole file replaces it when the program has closed the file, although the
    serial is the same. A later change with the same serial is ignored, as in CoreDNS.
    """
    path = tmp_path / "zone"
    with path.open("w") as file:
        file.write(ZONE)
        file.flush()
        aged(path, 5.0)
        data = gather(options(path), {})
        assert serial(data, path) == 1
        assert (refresh(options(path), data), period(options(path))) == (data, 1.0)
        file.write("a IN A 10.0.0.1\n")
    aged(path, 5.0)
    whole = refresh(options(path), data)
    key = data_key(str(path), "z0.test.")
    assert b"\x0a\x00\x00\x01" in whole[key]
    assert (refresh(options(path), whole), period(options(path))) == (whole, 60.0)
    with path.open("a") as file:
        file.write("b IN A 10.0.0.2\n")
    aged(path, 5.0)
    assert refresh(options(path), whole) == whole


def test_a_file_that_was_open_and_has_not_changed(tmp_path: Path) -> None:
    """If a program closes the file without a further change, the file is complete as it was read."""
    path = tmp_path / "zone"
    with path.open("w") as file:
        file.write(ZONE)
        file.flush()
        aged(path, 5.0)
        data = gather(options(path), {})
    assert (refresh(options(path), data), period(options(path))) == (data, 60.0)
    write(path, 1, age=5.0)
    with path.open("a") as file:
        file.write("b IN A 10.0.0.2\n")
    aged(path, 5.0)
    assert refresh(options(path), data) == data


def test_a_file_that_stays_open_for_writing_replaces_a_zone_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A zone is not replaced by a part of a file, however long the program pauses; after a minute the file counts."""
    monkeypatch.setattr("svcdns.zones.file_reads.time.sleep", lambda _seconds: None)
    path = tmp_path / "zone"
    write(path, 1, age=60.0)
    data = gather(options(path), {})
    with path.open("w") as file:
        file.write(ZONE.replace(" 1 2 3", " 2 2 3"))
        file.flush()
        aged(path, file_reads.OPEN_LIMIT - 5.0)
        assert (serial(refresh(options(path), data), path), period(options(path))) == (1, 1.0)
        aged(path, file_reads.OPEN_LIMIT + 1.0)
        assert (serial(refresh(options(path), data), path), period(options(path))) == (2, 60.0)


def test_a_zone_that_a_symbolic_link_replaces(tmp_path: Path) -> None:
    """In a ConfigMap volume, the link `..data` is replaced."""
    for number in (1, 2):
        (tmp_path / f"..{number}").mkdir()
        write(tmp_path / f"..{number}" / "zone", number, age=60.0)
    (tmp_path / "..data").symlink_to("..1")
    path = tmp_path / "zone"
    path.symlink_to("..data/zone")
    data = gather(options(path), {})
    assert serial(data, path) == 1
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert serial(refresh(options(path), data), path) == 2
