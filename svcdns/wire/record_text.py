"""Writes records as lines of a zone file (RFC 1035 §5.1), in the form that CoreDNS, BIND and `zone_text` read.

This module writes the common types and the types of DNSSEC itself. dnspython writes the RDATA of all other types.
"""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from svcdns.wire import names
from svcdns.wire.codes import Type, class_text, type_text
from svcdns.wire.record import Record


def line(record: Record) -> str:
    """Returns a record as one line of a zone file, without a line ending. All names in the line are absolute.

    RDATA that cannot be written in the form of its type is written as `\\# LENGTH HEX` (RFC 3597 §5).
    """
    try:
        writer = _WRITERS.get(record.rtype)
        data = _other(record) if writer is None else writer(record.rdata)
    except (IndexError, ValueError):
        data = _generic(record.rdata)
    return f"{_owner(record.owner)}\t{record.ttl}\t{class_text(record.rclass)}\t{type_text(record.rtype)}\t{data}"


@lru_cache(256)
def _owner(name: bytes) -> str:
    return names.to_text(name)


def _generic(rdata: bytes) -> str:
    return f"\\# {len(rdata)} {rdata.hex()}"


def _other(record: Record) -> str:
    from svcdns.wire.rdata_text import to_text  # with dnspython

    text = to_text(record.rtype, record.rdata)
    return _generic(record.rdata) if text is None else text


def _exact(size: int, rdata: bytes) -> bytes:
    if len(rdata) != size:
        raise ValueError("RDATA of a wrong size")
    return rdata


def _ipv4(rdata: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET, rdata)


def _ipv6(rdata: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET6, rdata)


def _split(rdata: bytes, at: int = 0) -> tuple[str, int]:
    """Returns the name at an offset as text, and the offset after the name."""
    begin = at
    while length := rdata[at]:
        if length > names.MAX_LABEL:
            raise ValueError("compressed name in RDATA")
        at += 1 + length
    return names.to_text(rdata[begin : at + 1]), at + 1


def _name(rdata: bytes, at: int = 0) -> str:
    """Returns the name from an offset up to the end as text."""
    text, end = _split(rdata, at)
    _exact(end, rdata)
    return text


def _mx(rdata: bytes) -> str:
    return f"{_number(rdata, 0, 2)} {_name(rdata, 2)}"


def _service(rdata: bytes) -> str:
    return f"{_number(rdata, 0, 2)} {_number(rdata, 2, 2)} {_number(rdata, 4, 2)} {_name(rdata, 6)}"


def _authority(rdata: bytes) -> str:
    mname, at = _split(rdata)
    rname, at = _split(rdata, at)
    _exact(at + 20, rdata)
    numbers = " ".join([str(_number(rdata, place, 4)) for place in range(at, at + 20, 4)])
    return f"{mname} {rname} {numbers}"


def _number(rdata: bytes, at: int, size: int) -> int:
    return int.from_bytes(rdata[at : at + size], "big")


def _strings(rdata: bytes) -> str:
    words, at = [], 0
    while at < len(rdata):
        end = at + 1 + rdata[at]
        words.append(_quoted(rdata[at + 1 : end]))
        at = end
    if at != len(rdata) or not words:
        raise ValueError("character string cut off")
    return " ".join(words)


def _quoted(octets: bytes) -> str:
    text = "".join(
        f"\\{octet:c}" if octet in b'"\\' else chr(octet) if 0x20 <= octet < 0x7F else f"\\{octet:03d}"
        for octet in octets
    )
    return f'"{text}"'


def _key(rdata: bytes) -> str:
    if len(rdata) < 5:
        raise ValueError("RDATA cut off")
    return f"{_number(rdata, 0, 2)} {rdata[2]} {rdata[3]} {_base64(rdata[4:])}"


def _digest(rdata: bytes) -> str:
    if len(rdata) < 5:
        raise ValueError("RDATA cut off")
    return f"{_number(rdata, 0, 2)} {rdata[2]} {rdata[3]} {rdata[4:].hex().upper()}"


def _hex_after(count: int) -> Callable[[bytes], str]:
    """Returns a writer for RDATA of `count` octets that are numbers, and hexadecimal digits after them."""

    def write(rdata: bytes) -> str:
        if len(rdata) <= count:
            raise ValueError("RDATA cut off")
        return f"{' '.join(map(str, rdata[:count]))} {rdata[count:].hex().upper()}"

    return write


def _signature(rdata: bytes) -> str:
    signer, end = _split(rdata, 18)
    if end == len(rdata):
        raise ValueError("RDATA without a signature")
    return (
        f"{type_text(_number(rdata, 0, 2))} {rdata[2]} {rdata[3]} {_number(rdata, 4, 4)} "
        f"{_time(_number(rdata, 8, 4))} {_time(_number(rdata, 12, 4))} {_number(rdata, 16, 2)} {signer} "
        f"{_base64(rdata[end:])}"
    )


@lru_cache(64)
def _time(seconds: int) -> str:
    return time.strftime("%Y%m%d%H%M%S", time.gmtime(seconds))


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def _next_secure(rdata: bytes) -> str:
    name, at = _split(rdata)
    return f"{name} {_types(rdata[at:])}".rstrip()


@lru_cache(1024)
def _types(bitmap: bytes) -> str:
    """Returns the types in the type bit maps of a NSEC record as text (RFC 4034 §4.1.2)."""
    found, at = [], 0
    while at < len(bitmap):
        window, length = bitmap[at], bitmap[at + 1]
        for place, octet in enumerate(bitmap[at + 2 : at + 2 + length]):
            found += [window << 8 | place << 3 | bit for bit in range(8) if octet & 0x80 >> bit]
        at += 2 + length
    if at != len(bitmap):
        raise ValueError("type bit map cut off")
    return " ".join(map(type_text, found))


_WRITERS: Final[dict[int, Callable[[bytes], str]]] = {
    Type.A: _ipv4,
    Type.AAAA: _ipv6,
    **dict.fromkeys((Type.CNAME, Type.DNAME, Type.NS, Type.PTR), _name),
    Type.MX: _mx,
    Type.SRV: _service,
    Type.SOA: _authority,
    **dict.fromkeys((Type.SPF, Type.TXT), _strings),
    **dict.fromkeys((Type.DNSKEY, Type.CDNSKEY), _key),
    **dict.fromkeys((Type.DS, Type.CDS, Type.DLV, Type.TA), _digest),
    **dict.fromkeys((Type.TLSA, Type.SMIMEA), _hex_after(3)),
    Type.SSHFP: _hex_after(2),
    Type.RRSIG: _signature,
    Type.NSEC: _next_secure,
}
