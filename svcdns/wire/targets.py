"""Finds the target name in the RDATA of a record, such as the server in a MX record (RFC 1035 §3.3).

A server may add the addresses of this name to its reply. The types are CNAME, NS, MX, SRV and similar ones. A record
has at most one target here.
"""

from __future__ import annotations

from typing import Final

from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.errors import FormError
from svcdns.wire.record import Record

_TARGET_AT: Final = {
    int(Type.CNAME): 0, int(Type.NS): 0, int(Type.MX): 2, int(Type.AFSDB): 2, int(Type.RT): 2, int(Type.KX): 2,
    int(Type.SVCB): 2, int(Type.HTTPS): 2, int(Type.SRV): 6,
}  # fmt: skip
"""For each type with a target name in its RDATA: the number of octets before that name."""
_NAPTR_STRINGS: Final = 4
"""Octets before the three character strings of a NAPTR record's RDATA. The target is after them (RFC 3403 §4.1)."""


def target(record: Record) -> bytes | None:
    """Returns the lower-case target name in the RDATA of a record such as MX or SRV.

    The addresses of this name belong to the answer. Returns None if the record has no target name, or is malformed.
    """
    rtype = record.rtype
    at = _TARGET_AT.get(rtype)
    if at is None and rtype != Type.NAPTR:
        return None
    rdata = record.rdata
    try:
        if at is None:
            at = _NAPTR_STRINGS
            for _ in range(3):
                at += 1 + rdata[at]
        found = names.read_name(rdata, at)[0].lower()
    except (FormError, IndexError):
        return None
    is_owner = found == names.ROOT and rtype in (Type.SVCB, Type.HTTPS)  # RFC 9460 §2.5
    return record.owner.lower() if is_owner else found
