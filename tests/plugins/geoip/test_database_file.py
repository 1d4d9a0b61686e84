"""Reading the database in control (docs/plugins/geoip.md)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from svcdns.corefile.errors import CorefileError
from svcdns.plugins.geoip import Options, database_file, gather, period, refresh
from svcdns.plugins.geoip.database import Database
from tests.support.geoip_database import PLACE, database

GOOD = database({"192.0.2.0/24": PLACE})
NEW = database({"192.0.2.0/25": PLACE})


def test_a_database_is_read_again_if_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with the same time and size is not read."""
    path = tmp_path / "db"
    path.write_bytes(GOOD)
    options = Options(str(path))
    known = gather(options, {})
    assert known[str(path)].startswith(GOOD)
    assert Database(known[str(path)]).find("192.0.2.200") == PLACE
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda _path: b"")
        assert refresh(options, known) == known
    (tmp_path / "new").write_bytes(NEW)
    (tmp_path / "new").rename(path)
    os.utime(path, (1, 1))
    assert refresh(options, known)[str(path)].startswith(NEW)
    assert period(options) == 60.0


def test_a_database_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start fails, with a reason. During a refresh, the error keeps the earlier database in use."""
    path = tmp_path / "db"
    options = Options(str(path))

    def reason() -> str:
        with pytest.raises(CorefileError) as error:
            gather(options, {})
        return error.value.message.removeprefix(f"plugin/geoip: failed to open database file: {path}: ")

    assert reason() == "No such file or directory"
    path.write_bytes(b"no database")
    assert reason() == "error opening database: invalid MaxMind DB file"
    path.write_bytes(database({"192.0.2.0/24": {}}, "GeoIP2-Domain"))
    assert reason() == 'geoip2: reader does not support the "GeoIP2-Domain" database type'
    monkeypatch.setattr(database_file, "MAX_SIZE", 10)
    assert reason() == "the file has more than 10 octets"
