"""Finds the target name in the RDATA of a record, such as the server in a MX record (RFC 1035 §3.3).

The types are CNAME, NS, MX, SRV and similar ones. The addresses of a target may be in the same reply.
"""

from __future__ import annotations

from typing import Final

from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.errors import FormError
from svcdns.wire.record import Record

_TARGET_AT: Final = {
    int(Type.CNAME): 0, int(Type.NS): 0, int(Type.MX): 2, int(Type.AFSDB): 2, int(Type.RT): 2, int(Type.KX): 2,
    int(Type.SRV): 6,
}  # fmt: skip
"""For each type whose RDATA ends in a target name: the number of octets before that name."""
_SERVICE_BINDINGS: Final = frozenset({Type.SVCB, Type.HTTPS})
_PRIORITY: Final = 2
"""Octets before the target name in the RDATA of a SVCB or HTTPS record."""
_NAPTR_STRINGS: Final = 4
"""Octets before the three character strings of a NAPTR record's RDATA. The target is after them (RFC 3403 §4.1)."""


def target(record: Record) -> bytes | None:
    """Returns the lower-case target name in the RDATA of a record, or None if there is none.

    If the RDATA is malformed, the result may be octets that are not a name.
    """
    rtype, rdata = record.rtype, record.rdata
    at = _TARGET_AT.get(rtype)
    if at is not None:
        return rdata[at:].lower() or None
    is_binding = rtype in _SERVICE_BINDINGS
    if not is_binding and rtype != Type.NAPTR:
        return None
    try:
        at = _PRIORITY if is_binding else _after_strings(rdata)
        found = names.read_name(rdata, at)[0].lower()
    except (FormError, IndexError):
        return None
    return record.owner.lower() if is_binding and found == names.ROOT else found  # RFC 9460 §2.5


def _after_strings(rdata: bytes) -> int:
    """Returns the offset after the three character strings in the RDATA of a NAPTR record. Raises IndexError."""
    at = _NAPTR_STRINGS
    for _ in range(3):
        at += 1 + rdata[at]
    return at
