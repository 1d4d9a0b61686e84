"""Reading zone files in the control process (docs/behaviour/plugins.md#file)."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from svcdns.plugins.file import Options, gather, period, refresh
from svcdns.zones import file_reads
from svcdns.zones.content import PORTION, data_key, decode, error_key, portions
from svcdns.zones.zone_files import SHOWN_WARNINGS
from tests.support import world

ZONE = """\
$TTL 60
@   IN SOA ns root {serial} 2 3 4 5
    IN NS  ns
ns  IN A   10.0.0.1
www IN A   {address}
"""


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every zone file count as complete immediately. `test_file_reads` has the tests of files that are being
    written.
    """
    monkeypatch.setattr(file_reads, "SETTLE", 0.0)


def write(path: Path, serial: int = 1, address: str = "10.0.0.2") -> None:
    path.write_text(ZONE.format(serial=serial, address=address))


def options(path: Path, body: str = "") -> Options:
    read = world.options("file", f"file {path} example.org {{\n{body}\n}}")
    assert isinstance(read, Options)
    return read


def served(data: dict[str, bytes], path: Path) -> list[str]:
    """Returns the addresses of `www` in the plugin data, or an empty list if the zone has no content."""
    payload = data.get(data_key(str(path), "example.org."))
    found = [] if payload is None else [record for portion in portions(decode(payload)) for record in portion]
    return [line.split()[-1] for line in world.shown(found) if line.startswith("www")]


def error(data: dict[str, bytes], path: Path) -> str:
    """Returns the error text of the file."""
    return data[error_key(str(path), "example.org.")].decode()


def test_gather(tmp_path: Path) -> None:
    """`gather` reads the records of a zone in portions. The serial is separate from the records."""
    path = tmp_path / "zone"
    path.write_text(
        ZONE.format(serial=7, address="10.0.0.2")
        + "".join(f"h{number} IN A 10.1.0.1\n" for number in range(2 * PORTION))
    )
    data = gather(options(path), {})
    assert (served(data, path), error(data, path)) == (["10.0.0.2"], "")
    content = decode(data[data_key(str(path), "example.org.")])
    assert (content.serial, [len(portion) for portion in portions(content)]) == (7, [PORTION, PORTION, 3])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("www IN A 10.0.0.1\n", ": no SOA record for example.org.", id="no SOA"),
        pytest.param("@ IN SOA ns root 1 2 3 4 5\nwww IN A 10.0.0\n", ":2:10: A data is wrong", id="bad address"),
    ],
)
def test_an_invalid_file_is_an_error_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, expected: str
) -> None:
    """The error has the positions in the Corefile and in the zone file. The file is read again later, even with `reload
    0`.
    """
    path = tmp_path / "zone"
    path.write_text(text)
    data = gather(options(path, "reload 0"), {})
    assert (served(data, path), error(data, path).startswith(f"{path}{expected}")) == ([], True)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    line = "the zone is SERVFAIL position=Corefile:2 zone=example.org. retry_seconds=60"
    assert f'{line} error="{path}{expected}' in caplog.text
    caplog.clear()
    assert refresh(options(path, "reload 0"), data) == data
    assert caplog.text == ""
    write(path)
    data = refresh(options(path, "reload 0"), data)
    assert (served(data, path), error(data, path)) == (["10.0.0.2"], "")


def test_a_missing_file_is_read_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As in CoreDNS, a missing file is a warning."""
    path = tmp_path / "zone"
    data = gather(options(path, "reload 5s"), {})
    assert served(data, path) == []
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "No such file or directory" in caplog.text
    assert "the zone is SERVFAIL position=Corefile:2 zone=example.org. retry_seconds=1 " in caplog.text
    write(path)
    assert served(refresh(options(path), data), path) == ["10.0.0.2"]


def test_a_file_that_becomes_invalid_keeps_its_last_content(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The content stays after a reload of the Corefile and of the zone. The error is logged once."""
    path = tmp_path / "zone"
    write(path)
    known = gather(options(path), {})
    path.write_text("nonsense")
    for found in (gather(options(path), known), refresh(options(path), known)):
        assert served(found, path) == ["10.0.0.2"]
        assert error(found, path).startswith(f"{path}:1:1:")
    assert "the zone is served as it was read before zone=example.org." in caplog.text
    caplog.clear()
    assert refresh(options(path), found) == found
    assert caplog.text == ""
    write(path)
    assert refresh(options(path), found) == known | {error_key(str(path), "example.org."): b""}


def test_a_zone_is_replaced_if_its_serial_differs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The file's SOA record is read first. If the serial is the same, the rest is not read."""
    path = tmp_path / "zone"
    write(path)
    known = gather(options(path), {})
    write(path, address="10.0.0.3")
    assert refresh(options(path), known) == known
    with caplog.at_level(logging.INFO):
        write(path, serial=2, address="10.0.0.3")
        assert served(refresh(options(path), known), path) == ["10.0.0.3"]
    assert f'Successfully reloaded zone "example.org." in "{path}" with 2 SOA serial' in caplog.text
    assert refresh(options(path, "reload 0"), known) == known


def test_reload_by_mtime(tmp_path: Path) -> None:
    """The zone is replaced if the file's modification time differs, whatever the serial is."""
    path = tmp_path / "zone"
    write(path)
    known = gather(options(path), {})
    write(path, address="10.0.0.3")
    assert served(refresh(options(path, "reload_by_mtime"), known), path) == ["10.0.0.3"]
    path.unlink()
    assert served(refresh(options(path, "reload_by_mtime"), known), path) == ["10.0.0.2"]


def test_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Records outside the zone are not served. If there are many warnings, their number is logged."""
    path = tmp_path / "zone"
    path.write_text(
        ZONE.format(serial=1, address="10.0.0.2") + f"www.example.net. IN A 10.0.0.{9}\n" * (SHOWN_WARNINGS + 2)
    )
    assert served(gather(options(path), {}), path) == ["10.0.0.2"]
    assert f"{path}:6:1: www.example.net. is outside the zone example.org." in caplog.text
    assert f"path={path} warnings=2" in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "other.test. 9 SOA a b 1 2 3 4 5",
            "other.test. 9 IN SOA a.example.org. b.example.org. 1 2 3 4 5",
            id="of another owner",
        ),
        pytest.param(
            "@ 9 SOA a b 1 2 3 4 5\n@ 9 SOA a b 2 2 3 4 5",
            "example.org. 9 IN SOA a.example.org. b.example.org. 2 2 3 4 5",
            id="two",
        ),
        pytest.param(
            "@ 9 SOA a b 1 2 3 4 5\nc 9 SOA a b 2 2 3 4 5",
            "example.org. 9 IN SOA a.example.org. b.example.org. 1 2 3 4 5",
            id="one below",
        ),
    ],
)
def test_the_soa_record_of_a_zone(tmp_path: Path, text: str, expected: str) -> None:
    """The SOA record at the zone's own name is used. As in CoreDNS, the last of several is used."""
    path = tmp_path / "zone"
    path.write_text(text)
    data = gather(options(path), {})
    assert world.shown([decode(data[data_key(str(path), "example.org.")]).soa]) == [expected]


def test_the_period_is_the_shortest_interval(tmp_path: Path) -> None:
    """With `reload 0`, a file is read again only until it is valid."""
    text = "file a {\n reload 0\n}\nfile b {\n reload 20s\n}\nfile c"
    assert period(world.options("file", text)) == 20.0
    assert period(options(tmp_path, "reload 0")) == 60.0


def test_the_differences_between_versions(tmp_path: Path) -> None:
    """They are kept with *transfer* in the block."""
    path, text = tmp_path / "db", f"file {tmp_path}/db example.org"
    for others, steps in (("transfer {\n to *\n}", 1), ("", 0)):
        found = world.options("file", f"{text}\n{others}")
        write(path, 1)
        data = gather(found, {})
        write(path, 2, "10.0.0.3")
        data |= refresh(found, data)
        (payload,) = (value for key, value in data.items() if not key.startswith("error"))
        assert len(decode(payload).history) == steps
