"""Encodes a zone for the workers. The control process reads and checks the zone file.

The records are encoded in several portions: a worker handles queries after each portion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from svcdns.dnssec.signatures import canonical_order_key
from svcdns.wire.codes import Type
from svcdns.wire.record import Record

PORTION: Final = 100
"""The number of records in one portion."""


class ZoneContent(msgspec.Struct, frozen=True, array_like=True):
    """A zone in the form that the workers receive.

    `modified` is the modification time of the zone file in nanoseconds. `portions` has the encoded records except SOA,
    in file order. `denials` has the owner names of the NSEC records in lower case, in canonical order (RFC 4034 §6.1).
    `history` has the last differences between versions (see `zones.history`).
    """

    soa: Record
    modified: int
    portions: tuple[bytes, ...]
    denials: tuple[bytes, ...]
    history: tuple[bytes, ...] = ()

    @property
    def serial(self) -> int:
        """Returns the serial of the zone's SOA record."""
        return int.from_bytes(self.soa.rdata[-20:-16], "big")


_content = msgspec.msgpack.Decoder(ZoneContent)
_records = msgspec.msgpack.Decoder(list[Record])


def data_key(path: str, zone: str) -> str:
    """Returns the key under which the control process sends the content of a zone to the workers."""
    return f"{path} {zone}"


def error_key(path: str, zone: str) -> str:
    """Returns the key under which the control process sends the error of a zone file to the workers.

    The error is an empty text if the file can be used.
    """
    return f"error {path} {zone}"


def encode(soa: Record, records: Sequence[Record], modified: int) -> bytes:
    """Encodes a zone. `records` may include the SOA record."""
    others = [record for record in records if record.rtype != Type.SOA]
    denials = sorted({record.owner.lower() for record in others if record.rtype == Type.NSEC}, key=canonical_order_key)
    return msgspec.msgpack.encode(ZoneContent(soa, modified, encoded_portions(others), tuple(denials)))


def encoded_portions(records: Sequence[Record]) -> tuple[bytes, ...]:
    """Encodes records in portions."""
    return tuple(msgspec.msgpack.encode(records[at : at + PORTION]) for at in range(0, len(records), PORTION))


def decode(payload: bytes) -> ZoneContent:
    """Decodes a zone that `encode` encoded. The records stay encoded; see `portions`."""
    return _content.decode(payload)


def portions(content: ZoneContent) -> Iterator[list[Record]]:
    """Decodes and yields the records of the zone in portions, without the SOA record."""
    return map(_records.decode, content.portions)


def covered(signature: Record) -> int:
    """Returns the type that an RRSIG record signs (RFC 4034 §3.1.1)."""
    return int.from_bytes(signature.rdata[:2], "big")
