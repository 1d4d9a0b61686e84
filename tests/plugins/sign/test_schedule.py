"""When *sign* signs a zone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from svcdns.plugins.sign.schedule import DAY, HOUR, Check, Jitter, check

NOW = 1_800_000_000
MADE = 1_600_000_000
TEXT = "example.org. 60 IN SOA ns. root. 1 2 3 4 5\nexample.org. 60 IN RRSIG A 13 2 60 1 1 9 example.org. AQID\n"


def signature(inception: int, expiration: int, tag: int = 7) -> str:
    return f"example.org.\t60\tIN\tRRSIG\tSOA 13 2 60 {expiration} {inception} {tag} example.org. AQID\n"


class Files:
    """A zone file, and its signed file with the signatures in `lines`."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.zone, self.signed = folder / "zone", folder / "signed"
        self.zone.write_text("")
        self.signed.write_text(TEXT + "".join(lines) + "more.example.org. 60 IN A 192.0.2.1\n" * 2000)
        os.utime(self.zone, (MADE, MADE))

    def check(self, *tags: int) -> Check:
        return check(str(self.signed), str(self.zone), tags or (7,), NOW)


@pytest.mark.parametrize("age", [0, 5 * DAY, 6 * DAY])
@pytest.mark.parametrize("left", [7 * DAY, 37 * DAY])
def test_valid_signatures(tmp_path: Path, age: int, left: int) -> None:
    assert Files(tmp_path, signature(NOW - age, NOW + left)).check() == ("", NOW + left)


@pytest.mark.parametrize(
    ("age", "left", "reason"),
    [
        (
            6 * DAY + 1,
            30 * DAY,
            'inception "2027-01-09T07:59:59.000Z" was more than: 144h0m0s ago from 2027-01-15T08:00',
        ),
        (-1, 30 * DAY, 'inception "2027-01-15T08:00:01.000Z" date is in the future'),
        (DAY, 7 * DAY - 1, 'expiration "2027-01-22T07:59:59.000Z" is less than: 168h0m0s away from 2027-01-15T08:00'),
        (DAY, -DAY, 'expiration "2027-01-14T08:00:00.000Z" is less than'),
    ],
)
def test_old_signatures(tmp_path: Path, age: int, left: int, reason: str) -> None:
    """All signatures of the SOA record are checked."""
    files = Files(tmp_path, signature(NOW - DAY, NOW + 30 * DAY), signature(NOW - age, NOW + left))
    found = files.check()
    assert found.reason.startswith(reason)
    assert found.expiration == NOW + min(left, 30 * DAY)


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "none"
    assert check(str(path), "zone", (7,), NOW) == (f"open {path}: no such file or directory", 0)


def test_a_file_without_signatures(tmp_path: Path) -> None:
    assert Files(tmp_path).check().reason == 'the SOA record is signed with the key tags "", not with "7"'


def test_a_file_that_is_no_zone(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.signed.write_text("nonsense\n")
    assert files.check().reason.startswith(f"{files.signed}:1:1: ")


def test_other_keys(tmp_path: Path) -> None:
    files = Files(tmp_path, signature(NOW - DAY, NOW + 30 * DAY, 8), signature(NOW - DAY, NOW + 30 * DAY, 7))
    assert files.check(7, 8).reason == ""
    assert files.check(7).reason == 'the SOA record is signed with the key tags "7,8", not with "7"'


def test_a_newer_zone_file(tmp_path: Path) -> None:
    """CoreDNS waits until the signatures are old."""
    files = Files(tmp_path, signature(NOW - DAY, NOW + 30 * DAY))
    os.utime(files.signed, (MADE - 1, MADE - 1))
    assert files.check().reason == f"{files.zone} is newer than {files.signed}"
    files.zone.unlink()
    assert files.check().reason == ""


def test_the_times_of_signatures() -> None:
    """Valid from 3 to 21 hours ago, for 32 to 37 days, as in CoreDNS."""
    period = Jitter(1, 2).period(NOW + 0.9)
    assert (period.inception, period.expiration) == (NOW - 3 * HOUR - 1, NOW + 32 * DAY + 2)
    for _ in range(100):
        jitter = Jitter.drawn()
        assert 0 <= jitter.inception < 18 * HOUR
        assert 0 <= jitter.expiration < 5 * DAY
