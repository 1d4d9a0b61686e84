"""Reading zone files in control (docs/behaviour/plugins.md#file)."""

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
    """Files count as complete at once. `test_file_reads` has the tests of files that are being written."""
    monkeypatch.setattr(file_reads, "SETTLE", 0.0)


def write(path: Path, serial: int = 1, address: str = "10.0.0.2") -> None:
    """Writes a zone file."""
    path.write_text(ZONE.format(serial=serial, address=address))


def options(path: Path, body: str = "") -> Options:
    """Returns the options for one zone file."""
    read = world.options("file", f"file {path} example.org {{\n{body}\n}}")
    assert isinstance(read, Options)
    return read


def shown(data: dict[str, bytes], path: Path) -> list[str]:
    """Returns the addresses of `www` in the plugin data; empty if the zone has no content."""
    payload = data.get(data_key(str(path), "example.org."))
    found = [] if payload is None else [record for portion in portions(decode(payload)) for record in portion]
    return [line.split()[-1] for line in world.shown(found) if line.startswith("www")]


def error(data: dict[str, bytes], path: Path) -> str:
    """Returns the error text of the file."""
    return data[error_key(str(path), "example.org.")].decode()


def test_gather(tmp_path: Path) -> None:
    """`gather` reads the records of a zone in portions, with the serial separately."""
    path = tmp_path / "zone"
    path.write_text(
        ZONE.format(serial=7, address="10.0.0.2")
        + "".join(f"h{number} IN A 10.1.0.1\n" for number in range(2 * PORTION))
    )
    data = gather(options(path), {})
    assert (shown(data, path), error(data, path)) == (["10.0.0.2"], "")
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
    """An invalid zone file is one error with the positions in both files, and is read again later, even with
    `reload 0`.
    """
    path = tmp_path / "zone"
    path.write_text(text)
    data = gather(options(path, "reload 0"), {})
    assert (shown(data, path), error(data, path).startswith(f"{path}{expected}")) == ([], True)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert f"Corefile:2: {path}{expected}" in caplog.text
    assert "zone example.org. is SERVFAIL; trying again in 60s" in caplog.text
    caplog.clear()
    assert refresh(options(path, "reload 0"), data) == data
    assert caplog.text == ""
    write(path)
    data = refresh(options(path, "reload 0"), data)
    assert (shown(data, path), error(data, path)) == (["10.0.0.2"], "")


def test_a_missing_file_is_read_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A zone file that does not exist yet is a warning, as in CoreDNS, and is read once it exists."""
    path = tmp_path / "zone"
    data = gather(options(path, "reload 5s"), {})
    assert shown(data, path) == []
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "No such file or directory" in caplog.text
    assert "trying again in 5s" in caplog.text
    write(path)
    assert shown(refresh(options(path), data), path) == ["10.0.0.2"]


def test_a_file_that_becomes_invalid_keeps_its_last_content(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An invalid zone file keeps its last content, both when the Corefile and when the zone is reloaded. The error is
    logged once.
    """
    path = tmp_path / "zone"
    write(path)
    known = gather(options(path), {})
    path.write_text("nonsense")
    for found in (gather(options(path), known), refresh(options(path), known)):
        assert shown(found, path) == ["10.0.0.2"]
        assert error(found, path).startswith(f"{path}:1:1:")
    assert "zone example.org. is served as it was read before" in caplog.text
    caplog.clear()
    assert refresh(options(path), found) == found
    assert caplog.text == ""
    write(path)
    assert refresh(options(path), found) == known | {error_key(str(path), "example.org."): b""}


def test_a_zone_is_replaced_if_its_serial_differs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Before a zone is reloaded, only its SOA record is read; with an equal serial, nothing is reloaded."""
    path = tmp_path / "zone"
    write(path)
    known = gather(options(path), {})
    write(path, address="10.0.0.3")
    assert refresh(options(path), known) == known
    with caplog.at_level(logging.INFO):
        write(path, serial=2, address="10.0.0.3")
        assert shown(refresh(options(path), known), path) == ["10.0.0.3"]
    assert f"Successfully reloaded zone example.org. in {path} with 2 SOA serial" in caplog.text
    assert refresh(options(path, "reload 0"), known) == known


def test_reload_by_mtime(tmp_path: Path) -> None:
    """A zone is replaced if the time of its file differs, whatever its serial."""
    path = tmp_path / "zone"
    write(path)
    known = gather(options(path), {})
    write(path, address="10.0.0.3")
    assert shown(refresh(options(path, "reload_by_mtime"), known), path) == ["10.0.0.3"]
    path.unlink()
    assert shown(refresh(options(path, "reload_by_mtime"), known), path) == ["10.0.0.2"]


def test_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Records outside the zone are not served. Many warnings are counted."""
    path = tmp_path / "zone"
    path.write_text(
        ZONE.format(serial=1, address="10.0.0.2") + f"www.example.net. IN A 10.0.0.{9}\n" * (SHOWN_WARNINGS + 2)
    )
    assert shown(gather(options(path), {}), path) == ["10.0.0.2"]
    assert f"{path}:6:1: www.example.net. is outside the zone example.org." in caplog.text
    assert f"{path}: 2 more warnings" in caplog.text


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
    """A zone's SOA record is the one at its apex. If there are several, the last one counts, as in CoreDNS."""
    path = tmp_path / "zone"
    path.write_text(text)
    data = gather(options(path), {})
    assert world.shown([decode(data[data_key(str(path), "example.org.")]).soa]) == [expected]


def test_the_period_is_the_shortest_interval(tmp_path: Path) -> None:
    """The shortest reload interval of all zones is used. With `reload 0`, a file is read again only until it is
    valid.
    """
    text = "file a {\n reload 0\n}\nfile b {\n reload 20s\n}\nfile c"
    assert period(world.options("file", text)) == 20.0
    assert period(options(tmp_path, "reload 0")) == 60.0
