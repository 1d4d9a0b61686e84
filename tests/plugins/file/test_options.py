"""The options of `file`, and reading its zone files (docs/behaviour/plugins.md#file)."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import msgspec
import pytest

from svcdns.corefile.errors import CorefileError
from svcdns.plugins.file import Options, gather, period, refresh
from svcdns.plugins.file.options import data_key
from svcdns.wire.record import Record
from tests.support import world

ZONE = """\
$TTL 60
@   IN SOA ns root {serial} 2 3 4 5
    IN NS  ns
ns  IN A   10.0.0.1
www IN A   {address}
"""


def write(path: Path, serial: int = 1, address: str = "10.0.0.2") -> None:
    """Writes a zone file."""
    path.write_text(ZONE.format(serial=serial, address=address))


def options(path: Path, body: str = "") -> Options:
    """The options for one file."""
    read = world.options("file", f"file {path} example.org {{\n{body}\n}}")
    assert isinstance(read, Options)
    return read


def shown(data: dict[str, bytes], path: Path) -> list[str]:
    """The addresses of `www` in the data for the workers."""
    found = msgspec.msgpack.decode(data[data_key(str(path), "example.org.")], type=list[Record])
    return [line.split()[-1] for line in world.shown(found) if line.startswith("www")]


def test_reads_options() -> None:
    """Paths are relative to the folder of `root`."""
    text = "file a.zone x.y {\n reload 10s\n reload_by_mtime\n fallthrough z.x.y\n}\nfile b.zone {\n reload 0\n}"
    first, second = world.options("file", text, zones="example.org", root="/zones").files
    assert (first.path, first.zones, first.reload, first.reload_by_mtime) == ("/zones/a.zone", ("x.y.",), 10.0, True)
    assert first.fallthrough == ("z.x.y.",)
    assert (second.path, second.zones, second.reload, second.fallthrough) == (
        "/zones/b.zone",
        ("example.org.",),
        0.0,
        (),
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("file", "2:1 Wrong argument count", id="no file"),
        pytest.param("file a {\n reload 10\n}", "3:9 '10' is not a duration", id="duration"),
        pytest.param("file a {\n relod 10s\n}", "3:2 unknown property 'relod' (did you mean 'reload'?)", id="unknown"),
    ],
)
def test_rejected_directives(text: str, error: str) -> None:
    """The error is at the wrong word."""
    assert world.rejection("file", text).startswith(error)


def test_gather(tmp_path: Path) -> None:
    """Reads the records of the zone."""
    path = tmp_path / "zone"
    write(path)
    assert shown(gather(options(path), {}), path) == ["10.0.0.2"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("www IN A 10.0.0.1\n", "no SOA record for example.org.", id="no SOA"),
        pytest.param("@ IN SOA ns root 1 2 3 4 5\nwww IN A 10.0.0\n", ":2", id="bad address"),
    ],
)
def test_an_invalid_file_ends_the_start(tmp_path: Path, text: str, error: str) -> None:
    """The error has the position in the Corefile and in the zone file."""
    path = tmp_path / "zone"
    path.write_text("$TTL 60\n" + text if "10.0.0.1" in text else text)
    with pytest.raises(CorefileError, match=rf"Corefile:2:6 .*{re.escape(str(path))}.*{re.escape(error)}"):
        gather(options(path), {})


def test_a_missing_file_is_read_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With `reload 0` it ends the start."""
    path = tmp_path / "zone"
    with caplog.at_level(logging.WARNING):
        assert gather(options(path), {}) == {}
    assert "No such file or directory" in caplog.text
    write(path)
    assert shown(refresh(options(path), {}), path) == ["10.0.0.2"]
    path.unlink()
    with pytest.raises(CorefileError, match="No such file or directory"):
        gather(options(path, "reload 0"), {})


def test_a_file_that_becomes_invalid_keeps_its_last_content(tmp_path: Path) -> None:
    """At a reload of the Corefile and at a reload of the zone."""
    path = tmp_path / "zone"
    write(path)
    known = gather(options(path), {})
    path.write_text("nonsense")
    assert gather(options(path), known) == known
    assert refresh(options(path), known) == known


def test_a_zone_is_replaced_if_its_serial_differs(tmp_path: Path) -> None:
    """With `reload_by_mtime`, if its records differ."""
    path = tmp_path / "zone"
    write(path)
    known = gather(options(path), {})
    write(path, address="10.0.0.3")
    assert refresh(options(path), known) == known
    assert shown(refresh(options(path, "reload_by_mtime"), known), path) == ["10.0.0.3"]
    write(path, serial=2, address="10.0.0.3")
    assert shown(refresh(options(path), known), path) == ["10.0.0.3"]
    assert refresh(options(path, "reload 0"), known) == known


def test_the_period_is_the_shortest_interval(tmp_path: Path) -> None:
    """Files that are never read again do not count."""
    text = "file a {\n reload 0\n}\nfile b {\n reload 20s\n}\nfile c"
    assert period(world.options("file", text)) == 20.0
    assert period(options(tmp_path, "reload 0")) == 0.0
