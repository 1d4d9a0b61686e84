"""When a zone is signed, and for how long signatures are valid. The times are those of CoreDNS."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.record import Record
from svcdns.wire.signatures import covered_type
from svcdns.wire.zone_words import ZoneFileError
from svcdns.zones.signing import Period

HOUR: Final = 3600
DAY: Final = 24 * HOUR
CHECK: Final = 5 * HOUR
"""Seconds between two checks of a signed file."""
RESIGN_AFTER: Final = 6 * DAY
"""The age of a signature, from its inception, at which the zone is signed again."""
RESIGN_BEFORE: Final = 7 * DAY
"""The remaining time of a signature at which the zone is signed again."""
LIFETIME: Final = 32 * DAY
EXPIRATION_JITTER: Final = 5 * DAY
BACKDATED: Final = 3 * HOUR
"""The least seconds between the inception of a signature and the signing, for clients with slow clocks."""
INCEPTION_JITTER: Final = 18 * HOUR
_HEAD: Final = 1 << 14
"""The octets at the beginning of a signed file in which the signatures of the SOA record are searched."""


@dataclass(frozen=True, slots=True)
class Jitter:
    """The seconds by which the signatures of one zone begin earlier and end later than is usual."""

    inception: int
    expiration: int

    @classmethod
    def drawn(cls) -> Jitter:
        """Returns a random jitter."""
        return cls(random.randrange(INCEPTION_JITTER), random.randrange(EXPIRATION_JITTER))

    def period(self, now: float) -> Period:
        """Returns the period of signatures that are made at `now`, in Unix seconds."""
        return Period(int(now) - BACKDATED - self.inception, int(now) + LIFETIME + self.expiration)


class Check(NamedTuple):
    """The result of a check of a signed file.

    `reason` says why the zone must be signed; empty if the signatures are valid. `expiration` is the Unix time at which
    the first signature of the SOA record expires; 0 without a signature.
    """

    reason: str
    expiration: int = 0


def check(signed_file: str, zone_file: str, tags: Collection[int], now: float) -> Check:
    """Checks the signatures of the SOA record in a signed file. `tags` has the tags of the zone's keys. Blocks.

    As CoreDNS, looks at the age and at the end of each signature. In addition, the zone must be signed if its file is
    newer than the signed file, or if other keys made the signatures.
    """
    from svcdns.wire.zone_text import read  # the parser is loaded where a zone file is read, and nowhere else

    try:
        with Path(signed_file).open("rb") as file:
            head, modified = file.read(_HEAD), Path(signed_file).stat().st_mtime_ns
        records = read(head[: head.rfind(b"\n") + 1], names.ROOT, signed_file)
    except (OSError, ValueError) as error:  # ValueError: a path with a zero octet
        return Check(f"open {signed_file}: {(getattr(error, 'strerror', None) or str(error)).lower()}")
    except ZoneFileError as error:
        return Check(str(error))
    signatures = [one for one in records if one.rtype == Type.RRSIG and covered_type(one) == Type.SOA]
    expiration = min(map(_expiration, signatures), default=0)
    reason = _age(signatures, now) or _other_keys(signatures, tags) or _newer(zone_file, signed_file, modified)
    return Check(reason, expiration)


def _age(signatures: Iterable[Record], now: float) -> str:
    for one in signatures:
        inception, expiration = int.from_bytes(one.rdata[12:16], "big"), _expiration(one)
        age = now - inception
        if age > RESIGN_AFTER:
            return f'inception "{shown(inception)}" was more than: {RESIGN_AFTER // HOUR}h0m0s ago from {shown(now)}'
        if age < 0:
            return f'inception "{shown(inception)}" date is in the future: {age:.0f}s'
        if expiration - now < RESIGN_BEFORE:
            left = f"less than: {RESIGN_BEFORE // HOUR}h0m0s away from {shown(now)}"
            return f'expiration "{shown(expiration)}" is {left}: {expiration - now:.0f}s'
    return ""


def _other_keys(signatures: Iterable[Record], tags: Collection[int]) -> str:
    found = sorted({int.from_bytes(one.rdata[16:18], "big") for one in signatures})
    if found == sorted(set(tags)):
        return ""
    return f"the SOA record is signed with the key tags {_tags(found)}, not with {_tags(sorted(set(tags)))}"


def _tags(tags: Collection[int]) -> str:
    return f'"{",".join(map(str, tags))}"'


def _newer(zone_file: str, signed_file: str, modified: int) -> str:
    try:
        return f"{zone_file} is newer than {signed_file}" if Path(zone_file).stat().st_mtime_ns > modified else ""
    except (OSError, ValueError):
        return ""


def _expiration(signature: Record) -> int:
    return int.from_bytes(signature.rdata[8:12], "big")


def shown(seconds: float) -> str:
    """Returns a time in Unix seconds as text, in the form of CoreDNS's log lines."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
