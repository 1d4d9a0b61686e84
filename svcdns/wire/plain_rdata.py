"""Encodes the RDATA of common record types from text without escapes.

Rule: the functions return None for words that they do not expect, and report no errors. `rdata_text` then encodes the
words, or reports the error.
"""

from __future__ import annotations

import binascii
import calendar
import socket
import struct
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from svcdns.errors import SvcdnsError
from svcdns.wire import names
from svcdns.wire.codes import Type, type_text
from svcdns.wire.zone_words import Quoted

META_TYPES: Final = frozenset(
    {Type.OPT, Type.NXNAME, Type.TKEY, Type.TSIG, Type.IXFR, Type.AXFR, Type.MAILB, Type.MAILA, Type.ANY}
)
"""Types that cannot be records of a zone (RFC 6895 §3.1)."""

_TYPES: Final = {type_text(number): number for number in Type}
_RRSIG: Final = struct.Struct("!HBBIIIH").pack
_LENGTHS: Final = tuple(bytes((number,)) for number in range(256))
_NOT_A_LABEL: Final = frozenset({0, *range(names.MAX_LABEL + 1, names.MAX_NAME)})
_MX: Final = struct.Struct("!H").pack
_SRV: Final = struct.Struct("!HHH").pack
_SOA: Final = struct.Struct("!IIIII").pack


class RdataTextError(SvcdnsError):
    """Raised if the words are not valid RDATA of their type."""


class UnsendableError(RdataTextError):
    """Raised if RDATA is missing or wrong in a zone that CoreDNS loads.

    CoreDNS cannot send such RDATA, or sends RDATA that clients cannot use.
    """


def plain(rtype: int, words: list[str], origin: bytes) -> bytes | None:
    """Returns the encoded RDATA of a record, or None if `rdata_text.to_wire` must read the words.

    Names without a final dot are relative to `origin`, a wire name. Words must be ASCII.
    """
    reader = _READERS.get(rtype)
    return None if reader is None else reader(words, origin)


def _address(family: int) -> Callable[[list[str], bytes], bytes | None]:
    def read(words: list[str], _origin: bytes) -> bytes | None:
        if len(words) != 1:
            return None
        try:
            return socket.inet_pton(family, words[0])
        except (OSError, ValueError):
            return None

    return read


def _one_name(words: list[str], origin: bytes) -> bytes | None:
    return _name(words[0], origin) if len(words) == 1 else None


def _mx(words: list[str], origin: bytes) -> bytes | None:
    if len(words) != 2:
        return None
    preference, target = _number(words[0], 0xFFFF), _name(words[1], origin)
    return None if preference is None or target is None else _MX(preference) + target


def _service(words: list[str], origin: bytes) -> bytes | None:
    if len(words) != 4:
        return None
    priority, weight, port = (_number(word, 0xFFFF) for word in words[:3])
    target = _name(words[3], origin)
    if priority is None or weight is None or port is None or target is None:
        return None
    return _SRV(priority, weight, port) + target


def _authority(words: list[str], origin: bytes) -> bytes | None:
    if len(words) != 7:
        return None
    mname, rname = _name(words[0], origin), _name(words[1], origin)
    numbers = [_number(word, 0xFFFFFFFF) for word in words[2:]]
    if mname is None or rname is None or None in numbers:
        return None
    return mname + rname + _SOA(*numbers)


def _strings(words: list[str], _origin: bytes) -> bytes | None:
    parts: list[bytes] = []
    for word in words:
        size = len(word)
        if size > 255 or "\\" in word:
            return None
        parts += (_LENGTHS[size], word.encode())
    return b"".join(parts) or None


def _signature(words: list[str], origin: bytes) -> bytes | None:
    if len(words) < 9 or any(isinstance(word, Quoted) for word in words):
        return None
    covered = _TYPES.get(words[0])
    algorithm, labels, ttl = _number(words[1], 0xFF), _number(words[2], 0xFF), _number(words[3], 0x7FFFFFFF)
    expiration, inception = _time(words[4]), _time(words[5])
    tag, signer = _number(words[6], 0xFFFF), _name(words[7], origin)
    if covered is None or algorithm is None or labels is None or ttl is None or tag is None or signer is None:
        return None
    if expiration is None or inception is None:
        return None
    try:
        octets = binascii.a2b_base64("".join(words[8:]), strict_mode=True)
    except ValueError:
        return None
    return _RRSIG(covered, algorithm, labels, ttl, expiration, inception, tag) + signer + octets


@lru_cache(256)
def _time(word: str) -> int | None:
    """Returns a time of a signature in Unix seconds (RFC 4034 §3.2)."""
    if len(word) != 14 or not word.isdecimal():
        return None
    try:
        seconds = calendar.timegm(time.strptime(word, "%Y%m%d%H%M%S"))
    except ValueError:
        return None
    return seconds if 0 <= seconds <= 0xFFFFFFFF else None


def _number(word: str, largest: int) -> int | None:
    if not word.isdecimal() or len(word) > 10 or isinstance(word, Quoted):
        return None
    number = int(word)
    return number if number <= largest else None


def _name(word: str, origin: bytes) -> bytes | None:
    if "\\" in word or isinstance(word, Quoted):
        return None
    if word == "@":
        return origin
    if word == ".":
        return names.ROOT
    labels = word.encode().split(b".")
    end = names.ROOT
    if labels[-1]:
        end = origin
    else:
        del labels[-1]
    out = b""
    for label in labels:
        size = len(label)
        if size in _NOT_A_LABEL:
            return None
        out += _LENGTHS[size] + label
    out += end
    return out if len(out) <= names.MAX_NAME else None


_READERS: Final[dict[int, Callable[[list[str], bytes], bytes | None]]] = {
    Type.A: _address(socket.AF_INET),
    Type.AAAA: _address(socket.AF_INET6),
    **dict.fromkeys((Type.CNAME, Type.DNAME, Type.NS, Type.PTR), _one_name),
    Type.MX: _mx,
    Type.SRV: _service,
    Type.SOA: _authority,
    **dict.fromkeys((Type.SPF, Type.TXT), _strings),
    Type.RRSIG: _signature,
}
