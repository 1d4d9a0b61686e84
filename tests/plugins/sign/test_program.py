"""The process that signs a zone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from svcdns.plugins.sign.program import Job, Result, sign
from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.zone_text import read

KEY = str(Path(__file__).parents[2] / "dnssec" / "keys" / "Kexample.org.+013+41819")
ZONE = "$TTL 60\n@ SOA ns root 1 2 3 4 5\n@ NS ns\n$INCLUDE more\n"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "zone").write_text(ZONE)
    (tmp_path / "more").write_text("ns A 192.0.2.1\n")
    _settle(tmp_path)
    return Job(
        f"{tmp_path}/zone", "Example.org.", f"{tmp_path}/out/db.signed", (KEY,), 99, 1_700_000_000, 1_800_000_000
    )


def _settle(folder: Path) -> None:
    for path in folder.iterdir():
        os.utime(path, (time.time() - 60,) * 2)


def test_writes_the_signed_file(job: Job) -> None:
    assert sign(job) == Result("")
    records = read(Path(job.signed_file).read_bytes(), names.from_text("example.org."), "signed")
    assert [one.rtype for one in records[:2]] == [Type.SOA, Type.RRSIG]
    assert records[0].rdata[-20:-16] == (99).to_bytes(4, "big")
    assert {names.to_text(one.owner) for one in records} == {"example.org.", "ns.example.org."}
    assert Path(job.signed_file).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (ZONE + "x A 1.2.3\n", "{folder}/zone:5:5: A data is wrong"),
        ("$TTL 60\nns A 192.0.2.1\n", "no SOA record for example.org."),
        ("", "no SOA record for example.org."),
        (ZONE + "$INCLUDE none\n", "{folder}/zone:5:10: cannot include: open {folder}/none"),
    ],
)
def test_a_bad_file_does_not_replace_a_signed_file(job: Job, tmp_path: Path, text: str, error: str) -> None:
    sign(job)
    before = Path(job.signed_file).read_bytes()
    (tmp_path / "zone").write_text(text)
    _settle(tmp_path)
    assert sign(job).error.startswith(error.replace("{folder}", str(tmp_path)))
    assert Path(job.signed_file).read_bytes() == before
    assert [one.name for one in Path(job.signed_file).parent.iterdir()] == ["db.signed"]


def test_a_file_that_is_missing(job: Job, tmp_path: Path) -> None:
    (tmp_path / "zone").unlink()
    assert sign(job).error == f"open {tmp_path}/zone: No such file or directory"


def test_a_folder_that_cannot_be_made(job: Job, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    assert sign(job).error == f"failed to move zone file into place: {job.signed_file}: file exists"


def test_records_that_are_left_out_are_warnings(job: Job, tmp_path: Path) -> None:
    (tmp_path / "zone").write_text(ZONE + "other.test. A 192.0.2.1\n")
    _settle(tmp_path)
    result = sign(job)
    assert result.error == ""
    assert "other.test. is outside the zone" in result.warnings[0]
