"""A zone as control hands it to the workers: read, checked and encoded, in portions that take little time to decode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.record import Record

PORTION: Final = 100
"""Records of one portion."""


class ZoneContent(msgspec.Struct, frozen=True, array_like=True):
    """One zone. `modified` is the time of its file in nanoseconds.

    `portions` are the records other than SOA, encoded, in file order.
    `denials` are the owners of NSEC records, lowered, in canonical order (RFC 4034 §6.1).
    """

    soa: Record
    modified: int
    portions: tuple[bytes, ...]
    denials: tuple[bytes, ...]

    @property
    def serial(self) -> int:
        """The serial in the SOA record."""
        return int.from_bytes(self.soa.rdata[-20:-16], "big")


_content = msgspec.msgpack.Decoder(ZoneContent)
_records = msgspec.msgpack.Decoder(list[Record])


def data_key(path: str, zone: str) -> str:
    """The key of a zone's content in the data that control sends to the workers."""
    return f"{path} {zone}"


def error_key(path: str, zone: str) -> str:
    """The key of the reason why the file, as it is now, cannot be used for the zone; the text is empty if it can."""
    return f"error {path} {zone}"


def encode(soa: Record, records: Sequence[Record], modified: int) -> bytes:
    """The content of a zone with these records, the SOA record among them or not."""
    others = [record for record in records if record.rtype != Type.SOA]
    portions = tuple(msgspec.msgpack.encode(others[at : at + PORTION]) for at in range(0, len(others), PORTION))
    denials = sorted({record.owner.lower() for record in others if record.rtype == Type.NSEC}, key=canonical)
    return msgspec.msgpack.encode(ZoneContent(soa, modified, portions, tuple(denials)))


def decode(payload: bytes) -> ZoneContent:
    """The content that `encode` made."""
    return _content.decode(payload)


def portions(content: ZoneContent) -> Iterator[list[Record]]:
    """The records other than SOA."""
    return map(_records.decode, content.portions)


def canonical(name: bytes) -> list[bytes]:
    """What names, lowered, are sorted by in canonical order."""
    return names.labels_of(name)[::-1]
