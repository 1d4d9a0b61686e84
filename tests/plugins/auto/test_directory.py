"""Scanning a folder of zone files in control (docs/behaviour/plugins.md#auto)."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import pytest

from svcdns.corefile.errors import CorefileError
from svcdns.plugins.auto import Options, gather, period, refresh
from svcdns.plugins.auto import directory as scans
from svcdns.plugins.auto.zone_list import content_key, decode
from svcdns.zones import content, file_reads
from svcdns.zones.zone_files import BLOCKED_RETRY
from tests.support import world

ZONE = "$TTL 60\n@ IN SOA ns root {serial} 2 3 4 5\nwww IN A {address}\n"


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Makes every file count as complete immediately. `test_file_reads` has the tests of files that are
    being written.
    """
    caplog.set_level(logging.WARNING, "svcdns")
    monkeypatch.setattr(file_reads, "SETTLE", 0.0)


class Folder:
    """A folder of zone files, with the data that control has read from it."""

    def __init__(self, path: Path, body: str = "", others: str = "") -> None:
        """Creates the folder. No file has been read yet. `others` are the other directives of the block."""
        self.path = path
        options = world.options("auto", f"auto org {{\n directory {path}\n{body}\n}}\n{others}")
        assert isinstance(options, Options)
        self.options = options
        self.data: dict[str, bytes] = {}

    def write(self, name: str, serial: int = 1, address: str = "10.0.0.1") -> None:
        """Writes a zone file."""
        (self.path / name).write_text(ZONE.format(serial=serial, address=address))

    def start(self) -> dict[str, str]:
        """Reads the folder for a new Corefile. Returns the address of `www` in each zone."""
        self.data = gather(self.options, self.data)
        return self.zones()

    def scan(self) -> dict[str, str]:
        """Scans the folder again. Returns the address of `www` in each zone."""
        self.data |= refresh(self.options, self.data)
        return self.zones()

    def zones(self) -> dict[str, str]:
        """Returns the address of `www` in each listed zone, or an empty text for a zone without content."""
        key = self.options.directories[0].key
        out = {}
        for one in decode(self.data[key]):
            payload = self.data.get(content_key(key, one.zone))
            assert one.is_loaded == bool(payload)
            records = [r for portion in content.portions(content.decode(payload)) for r in portion] if payload else []
            out[one.zone] = "".join(line.split()[-1] for line in world.shown(records))
        return out


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Returns the log lines since the last call."""
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return found


def test_zones_come_change_and_go(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each scan adds the zones of new files, replaces zones with a new serial, and removes zones without a file."""
    caplog.set_level(logging.INFO, "svcdns")
    folder = Folder(tmp_path)
    folder.write("db.a.org")
    (tmp_path / "README").write_text("no zone")
    assert folder.start() == {"a.org.": "10.0.0.1"}
    assert lines(caplog) == [f"Inserting zone `a.org.' from: {tmp_path}/db.a.org"]
    folder.write("db.b.org")
    folder.write("db.a.org", 2, "10.0.0.2")
    assert folder.scan() == {"a.org.": "10.0.0.2", "b.org.": "10.0.0.1"}
    assert lines(caplog) == [
        f'Successfully reloaded zone "a.org." in "{tmp_path}/db.a.org" with 2 SOA serial',
        f"Inserting zone `b.org.' from: {tmp_path}/db.b.org",
    ]
    folder.write("db.a.org", 2, "10.0.0.3")
    (tmp_path / "db.b.org").unlink()
    assert folder.scan() == {"a.org.": "10.0.0.2"}, "the serial is the same"
    assert folder.data[content_key(folder.options.directories[0].key, "b.org.")] == b""
    assert lines(caplog) == ["Deleting zone `b.org.'"]
    folder.write("db.b.org", 1, "10.0.0.4")
    assert folder.scan() == {"a.org.": "10.0.0.2", "b.org.": "10.0.0.4"}, "a file that came back is a new zone"


def test_a_bad_file_keeps_the_last_good_zone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A bad file adds no zone. A zone that was loaded before keeps its content. Each error is logged once."""
    folder = Folder(tmp_path)
    folder.write("db.a.org")
    (tmp_path / "db.b.org").write_text("nonsense\n")
    assert folder.start() == {"a.org.": "10.0.0.1", "b.org.": ""}
    assert lines(caplog)[-1].startswith(f"Parse zone `b.org.': {tmp_path}/db.b.org:1:1: ")
    (tmp_path / "db.a.org").write_text("nonsense\n")
    assert folder.scan() == {"a.org.": "10.0.0.1", "b.org.": ""}
    (line,) = lines(caplog)
    assert line.startswith("the zone is served as it was read before zone=a.org. error=")
    assert folder.scan() == {"a.org.": "10.0.0.1", "b.org.": ""}
    assert lines(caplog) == []
    refused = {one.zone: one.is_refused for one in decode(folder.data[folder.options.directories[0].key])}
    assert refused == {"a.org.": True, "b.org.": True}
    assert folder.start() == {"a.org.": "10.0.0.1", "b.org.": ""}, "also after a reload of the Corefile"
    folder.write("db.b.org", 1, "10.0.0.5")
    assert folder.scan() == {"a.org.": "10.0.0.1", "b.org.": "10.0.0.5"}


def test_subfolders_and_links(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Files in subfolders, and symbolic links to files, are read. If two files are for one zone, the first file is
    used.
    """
    (tmp_path / "sub").mkdir()
    folder = Folder(tmp_path)
    folder.write("db.a.org", 1, "10.0.0.1")
    folder.write("sub/db.a.org", 1, "10.0.0.2")
    folder.write("sub/db.b.org", 1, "10.0.0.3")
    (tmp_path / "db.c.org").symlink_to("sub/db.b.org")
    (tmp_path / "db.linked").symlink_to("sub")
    assert folder.start() == {"a.org.": "10.0.0.1", "b.org.": "10.0.0.3", "c.org.": "10.0.0.3"}
    expected = [
        f'Multiple zone files match origin "a.org.": using "{tmp_path}/db.a.org" instead of "{tmp_path}/sub/db.a.org"'
    ]
    assert lines(caplog) == expected
    folder.scan()
    assert lines(caplog) == [], "the warning is logged once"


def test_a_mounted_config_map(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The files of a ConfigMap are links into a hidden folder. All links change together, and no warning is logged."""

    def project(name: str, serial: int, address: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "db.a.org").write_text(ZONE.format(serial=serial, address=address))
        (tmp_path / "new").symlink_to(name)
        (tmp_path / "new").rename(tmp_path / "..data")

    project("..2026_1", 1, "10.0.0.1")
    (tmp_path / "db.a.org").symlink_to("..data/db.a.org")
    folder = Folder(tmp_path)
    assert folder.start() == {"a.org.": "10.0.0.1"}
    project("..2026_2", 2, "10.0.0.2")
    assert folder.scan() == {"a.org.": "10.0.0.2"}
    assert lines(caplog) == []


def test_names_that_are_no_zones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If no zone name can be made from a file's name, the file is left out, with one warning."""
    folder = Folder(tmp_path)
    folder.write("db.a..org")
    folder.write("db.UPPER.Org")
    assert folder.start() == folder.scan() == {"upper.org.": "10.0.0.1"}
    assert [line.partition(":")[0] for line in lines(caplog)] == ["Parse zone `a..org'"]


def test_a_folder_that_does_not_exist(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The server starts without zones, and finds the folder later. If the folder is deleted, its zones are removed."""
    path = tmp_path / "zones"
    folder = Folder(path)
    assert folder.start() == folder.scan() == {}
    assert lines(caplog) == [f"Directory does not exist: {path}"]
    path.mkdir()
    folder.write("db.a.org")
    assert folder.scan() == {"a.org.": "10.0.0.1"}
    (path / "db.a.org").unlink()
    path.rmdir()
    assert folder.scan() == {}


def test_a_folder_that_cannot_be_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At a start, the error has the position of the directive. Later, the zones do not change."""
    path = tmp_path / "zones"
    path.mkdir()
    folder = Folder(path)
    folder.write("db.a.org")
    folder.start()
    (path / "db.a.org").unlink()
    path.rmdir()
    path.write_text("a file")
    assert folder.scan() == folder.scan() == {"a.org.": "10.0.0.1"}
    text = f"plugin/auto: Unable to access root path '{path}': Not a directory"
    assert lines(caplog) == [f'the zones of a folder stay as they were error="{text}"']
    with pytest.raises(CorefileError, match=r"Corefile:2.*plugin/auto: Unable to access root path") as error:
        folder.start()
    assert error.value.message == text


def test_a_folder_that_hangs(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a listing hangs, the zones do not change. Control waits for the same listing again later."""
    monkeypatch.setattr(file_reads, "READ_TIMEOUT", 0.05)
    folder = Folder(tmp_path)
    folder.write("db.a.org")
    folder.start()
    answers = threading.Event()
    started = []

    def hang(path: str) -> list[str]:
        started.append(path)
        answers.wait(10)
        return []

    monkeypatch.setattr(scans, "_walk", hang)
    assert folder.scan() == folder.scan() == {"a.org.": "10.0.0.1"}
    assert period(folder.options) == BLOCKED_RETRY
    assert lines(caplog) == [f'the zones of a folder stay as they were error="{tmp_path}: not listed within 0.05 s"']
    answers.set()
    monkeypatch.setattr(file_reads, "READ_TIMEOUT", 5.0)
    assert folder.scan() == {}
    assert started == [str(tmp_path)]
    assert period(folder.options) == 60.0


def test_how_often_a_folder_is_scanned(tmp_path: Path) -> None:
    """With `reload 0` a folder is scanned once."""
    folder = Folder(tmp_path, "reload 0")
    folder.write("db.a.org")
    assert folder.start() == {"a.org.": "10.0.0.1"}
    folder.write("db.b.org")
    assert (folder.scan(), period(folder.options)) == ({"a.org.": "10.0.0.1"}, 0.0)
    assert period(Folder(tmp_path, "reload 5s").options) == 5.0


def test_an_unreadable_subfolder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A subfolder that cannot be read is left out, with a warning."""
    (tmp_path / "sub").mkdir()
    folder = Folder(tmp_path)
    folder.write("db.a.org")
    real = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("sub"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scans.os, "scandir", scandir)  # type: ignore[attr-defined]
        assert folder.start() == {"a.org.": "10.0.0.1"}
    assert lines(caplog) == [f"error reading {tmp_path}/sub: Permission denied"]


@pytest.mark.parametrize(("others", "steps"), [("transfer {\n to *\n}", [0, 1, 1]), ("", [0, 0, 0])])
def test_the_differences_between_versions(tmp_path: Path, others: str, steps: list[int]) -> None:
    """They are kept with *transfer* in the block, also by a reload."""
    folder = Folder(tmp_path, others=others)
    key = content_key(folder.options.directories[0].key, "a.org.")
    folder.write("db.a.org")
    folder.start()
    found = [content.decode(folder.data[key])]
    folder.write("db.a.org", 2, "10.0.0.2")
    folder.scan()
    found.append(content.decode(folder.data[key]))
    folder.start()
    found.append(content.decode(folder.data[key]))
    assert [len(one.history) for one in found] == steps
    assert [one.serial for one in found] == [1, 2, 2]
