"""Reads the fields of RRSIG records that state which records a signature covers (RFC 4034 §3.1).

Every function takes a record of any type. Signatures are not validated.
"""

from __future__ import annotations

from typing import Final

from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.errors import FormError
from svcdns.wire.record import Record

_SIGNER: Final = 18
"""The number of octets before the signer's name in the RDATA of a RRSIG record."""


def covered_type(record: Record) -> int:
    """Returns the type of a record. For a signature, returns the type of the records that it covers."""
    return int.from_bytes(record.rdata[:2], "big") if record.rtype == Type.RRSIG else record.rtype


def signer(record: Record) -> bytes | None:
    """Returns the lower-case name of the zone that made a signature.

    Returns None if the record is not a signature, or is malformed.
    """
    if record.rtype != Type.RRSIG:
        return None
    try:
        return names.read_name(record.rdata, _SIGNER)[0].lower()
    except FormError:
        return None
