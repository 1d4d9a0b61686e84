"""Encodes RDATA from its text form, and writes the text form, with dnspython.

This module has classes for types that dnspython does not have. If dnspython is stricter than CoreDNS, the words are
changed first (`_PREPARED`), or this module encodes the RDATA itself, with a warning (`_LENIENT`). Only this module
imports dnspython, when it is needed.
"""

from __future__ import annotations

import binascii
import re
import struct
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from math import isfinite
from types import SimpleNamespace
from typing import Any, Final

import dns.dnssectypes
import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.dsbase
import dns.tokenizer

from svcdns.wire.codes import Type, type_text
from svcdns.wire.plain_rdata import RdataTextError, UnsendableError, plain
from svcdns.wire.zone_words import Attached, Quoted, Text, ZoneFileError, escaped, mended, octets

_REFUSALS: Final = (dns.exception.DNSException, SyntaxError, ValueError, IndexError, struct.error, OverflowError)
"""The exceptions for wrong words, which dnspython and the functions of this module raise."""

MAX_TAG: Final = 255
"""The most octets of the tag of a CAA record (RFC 8659 §4.1)."""
SEA_LEVEL: Final = 10_000_000
"""The altitude 0 in the RDATA of a LOC record, in centimetres (RFC 1876 §2)."""

Warn = Callable[[str], None]


def to_wire(rtype: int, words: list[str], origin: bytes, warn: Warn) -> bytes:
    """Returns the encoded RDATA of a record. Raises RdataTextError.

    Names without a final dot are relative to `origin`, a wire name. Calls `warn` with a text if CoreDNS accepts the
    words and dnspython does not.
    """
    if words and words[0] == "\\#" and not isinstance(words[0], Quoted):
        return _generic(rtype, words)
    if rtype == Type.NSEC and len(words) > 1 and (following := plain(Type.NS, words[:1], origin)) is not None:
        with suppress(*_REFUSALS):
            return following + _type_bitmap(tuple(words[1:]))
    prepare = _PREPARED.get(rtype)
    try:
        if prepare is not None:
            words = prepare(words, warn)
        return _by_dnspython(rtype, words, _name(origin))
    except _REFUSALS as error:
        if _has_wrong_digits(rtype, words):
            raise UnsendableError(_reason(error)) from error
        refusal = UnsendableError if _is_misread(rtype, words) or _is_too_large(rtype, words) else RdataTextError
        lenient = _LENIENT.get(rtype, _without_digits if rtype in _DIGITS else None)
        if lenient is None:
            raise refusal(_reason(error)) from error
        try:
            data = lenient(rtype, words, _name(origin))
        except _REFUSALS:
            raise refusal(_reason(error)) from error
        warn(f"{type_text(rtype)} data is taken as it stands, though {_reason(error)}")
        return data


def to_text(rtype: int, rdata: bytes) -> str | None:
    """Returns RDATA as words of a zone file, with absolute names.

    Returns None if the RDATA is invalid for its type, or if `to_wire` would read the words differently.
    """
    try:
        text = dns.rdata.from_wire(_IN, _rdtype(rtype), rdata, 0, len(rdata)).to_text()
        (entry,) = Text(text.encode(), "").entries()
        again = to_wire(rtype, [mended(word)[0] for word in entry.words], b"\x00", lambda _text: None)
    except (*_REFUSALS, ZoneFileError, RdataTextError):
        return None
    return text if again == rdata else None


def _is_too_large(rtype: int, words: list[str]) -> bool:
    """Returns True for a value that CoreDNS loads, although the RDATA has no room for it.

    CoreDNS cannot send a CAA tag of more than 255 octets, and sends the lowest 32 bits of a LOC altitude.
    """
    if rtype == Type.CAA:
        return len(words) > 1 and len(words[1]) > MAX_TAG
    altitude = next((words[at + 1] for at, word in enumerate(words[:-1]) if word in {"E", "W"}), "")
    found = _METRES.fullmatch(altitude) if rtype == Type.LOC else None
    centimetres = float(found[1]) * 100 + SEA_LEVEL if found is not None else 0.0
    return isfinite(centimetres) and not 0 <= centimetres < 1 << 32


def _has_wrong_digits(rtype: int, words: list[str]) -> bool:
    if rtype not in _DIGITS:
        return False
    begin, decode = _DIGITS[rtype]
    try:
        decode("".join(words[begin:]))
    except ValueError:
        return len(words) > begin
    return False


def _is_misread(rtype: int, words: list[str]) -> bool:
    """Returns True if CoreDNS loads a zone with this RDATA, although the RDATA is missing or wrong."""
    if not words or rtype in _UNCHECKED:
        return True
    if rtype not in {Type.SVCB, Type.HTTPS}:
        return False
    keys = [word.partition("=")[0] for word in words[2:] if not isinstance(word, Attached)]
    return len(set(keys)) < len(keys) or "mandatory" in keys


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


_IN: Final = dns.rdataclass.IN
_rdtype = lru_cache(256)(dns.rdatatype.RdataType.make)


@lru_cache(256)
def _name(origin: bytes) -> dns.name.Name:
    return dns.name.from_wire(origin, 0)[0]


def _by_dnspython(rtype: int, words: list[str], origin: dns.name.Name) -> bytes:
    tokens = _Tokens(words)
    try:
        rdata = dns.rdata.from_text(_IN, _rdtype(rtype), tokens, origin, relativize=False)
    except dns.exception.DNSException as error:
        if tokens.ended and str(error).startswith("expecting"):
            raise ValueError("a word is missing") from error
        raise
    if isinstance(rdata, dns.rdata.GenericRdata):
        raise RdataTextError(f"data of type {type_text(rtype)} has to be written as \\# LENGTH HEX (RFC 3597)")
    wire = rdata.to_wire()
    assert wire is not None
    return wire


@lru_cache(1024)
def _type_bitmap(types: tuple[str, ...]) -> bytes:
    """Returns the type bit maps of a NSEC record from the names of types."""
    return _by_dnspython(Type.NSEC, [".", *types], dns.name.root)[1:]


def _generic(rtype: int, words: list[str]) -> bytes:
    """Returns RDATA that is written in the form for unknown types (RFC 3597 §5).

    The RDATA must be valid if dnspython knows the type.
    """
    try:
        length, data = int(words[1]), bytes.fromhex("".join(words[2:]))
    except (ValueError, IndexError) as error:
        refusal = UnsendableError if words[1:2] and words[1].isdecimal() else RdataTextError
        raise refusal(f"\\# needs a length and hexadecimal data: {error}") from error
    if len(data) != length:
        raise RdataTextError(f"\\# says {length} octets, {len(data)} follow")
    try:
        if dns.rdata.from_wire(_IN, _rdtype(rtype), data, 0, length).to_wire() != data:
            raise RdataTextError("a compressed name has no place in it")
    except _REFUSALS as error:
        raise RdataTextError(_reason(error)) from error
    return data


class _Token(dns.tokenizer.Token):
    """A dnspython token with a faster conversion of its text to octets."""

    def unescape_to_bytes(self) -> dns.tokenizer.Token:
        return dns.tokenizer.Token(self.ttype, octets(self.value))


class _Tokens(dns.tokenizer.Tokenizer):
    """A tokenizer that passes the words of one record to dnspython."""

    def __init__(self, words: list[str]) -> None:
        # The base class is not initialized: it would open its own input.
        self.idna_codec = dns.name.IDNA_DEFAULT
        self._words, self._at = words, 0
        self._kept: dns.tokenizer.Token | None = None
        self.ended = False
        """True if dnspython has asked for more words than there are."""

    def get(self, want_leading: bool = False, want_comment: bool = False) -> dns.tokenizer.Token:  # noqa: ARG002
        kept = self._kept
        if kept is not None:
            self._kept = None
            return kept
        if self._at == len(self._words):
            self.ended = True
            return dns.tokenizer.Token(dns.tokenizer.EOF)
        word = self._words[self._at]
        if want_leading and not isinstance(word, Attached):
            return dns.tokenizer.Token(dns.tokenizer.WHITESPACE, " ")
        self._at += 1
        kind = dns.tokenizer.QUOTED_STRING if isinstance(word, Quoted) else dns.tokenizer.IDENTIFIER
        return _Token(kind, word, "\\" in word)

    def unget(self, token: dns.tokenizer.Token) -> None:
        self._kept = token

    def as_name(
        self,
        token: dns.tokenizer.Token,
        origin: dns.name.Name | None = None,
        relativize: bool = False,
        relativize_to: dns.name.Name | None = None,
    ) -> dns.name.Name:
        text = token.value
        if "\\" in text or text in ("@", ".") or not token.is_identifier() or origin is None:
            return super().as_name(token, origin, relativize, relativize_to)
        labels = text.encode("ascii").split(b".")  # much faster than the base class, which looks at each character
        return dns.name.Name(labels if not labels[-1] else [*labels, *origin.labels])


# -- types that dnspython lacks


class _OwnRdata(dns.rdata.Rdata):
    """RDATA, as octets, of a type that dnspython does not have. The octets begin with `name_count` names."""

    __slots__ = ["data"]
    name_count = 0

    def __init__(self, rdclass: Any, rdtype: Any, data: bytes) -> None:
        super().__init__(rdclass, rdtype)
        object.__setattr__(self, "data", data)

    @classmethod
    def octets_of(cls, tokens: dns.tokenizer.Tokenizer, origin: dns.name.Name | None) -> bytes:
        raise NotImplementedError

    @classmethod
    def from_text(cls, rdclass: Any, rdtype: Any, tok: Any, origin: Any = None, *_relative: Any) -> _OwnRdata:
        return cls(rdclass, rdtype, cls.octets_of(tok, origin))

    @classmethod
    def from_wire_parser(cls, rdclass: Any, rdtype: Any, parser: Any, _origin: Any = None) -> _OwnRdata:
        found = b"".join(parser.get_name(None, True).to_wire() for _ in range(cls.name_count))
        return cls(rdclass, rdtype, found + parser.get_remaining())

    def _to_wire(self, file: Any, *_options: Any, **_more: Any) -> None:
        file.write(self.data)  # type: ignore[attr-defined]

    def to_styled_text(self, _style: Any) -> str:
        return f"\\# {len(self.data)} {self.data.hex()}"  # type: ignore[attr-defined]


def _wire_name(tokens: dns.tokenizer.Tokenizer, origin: dns.name.Name | None) -> bytes:
    return tokens.get_name(origin).to_wire() or b""


class _OneName(_OwnRdata):
    """RDATA of MB, MD, MF, MG and MR records: one name (RFC 1035 §3.3)."""

    name_count = 1

    @classmethod
    def octets_of(cls, tokens: dns.tokenizer.Tokenizer, origin: dns.name.Name | None) -> bytes:
        return _wire_name(tokens, origin)


class _TwoNames(_OwnRdata):
    """RDATA of MINFO records (RFC 1035 §3.3.7) and TALINK records (draft-wijngaards-dnsop-trust-history): two names."""

    name_count = 2

    @classmethod
    def octets_of(cls, tokens: dns.tokenizer.Tokenizer, origin: dns.name.Name | None) -> bytes:
        return _wire_name(tokens, origin) + _wire_name(tokens, origin)


class _Nxt(_OwnRdata):
    """RDATA of a NXT record (RFC 2535 §5.2). The bit map has only types below 128."""

    name_count = 1

    @classmethod
    def octets_of(cls, tokens: dns.tokenizer.Tokenizer, origin: dns.name.Name | None) -> bytes:
        name, bits = _wire_name(tokens, origin), bytearray(16)
        for token in tokens.get_remaining():
            number = dns.rdatatype.from_text(token.value)
            if number >= 128:
                raise ValueError(f"type {token.value} has no bit in a record of type NXT")
            bits[number // 8] |= 0x80 >> number % 8
        return name + bytes(bits).rstrip(b"\0")


class _Key(_OwnRdata):
    """RDATA of a RKEY record (draft-reid-dnsext-rkey), in the form of a KEY record."""

    @classmethod
    def octets_of(cls, tokens: dns.tokenizer.Tokenizer, _origin: dns.name.Name | None) -> bytes:
        head = struct.pack("!HBB", tokens.get_uint16(), tokens.get_uint8(), tokens.get_uint8())
        return head + binascii.a2b_base64(tokens.concatenate_remaining_identifiers())


class _String(_OwnRdata):
    """RDATA of a UINFO record: one character string."""

    @classmethod
    def octets_of(cls, tokens: dns.tokenizer.Tokenizer, _origin: dns.name.Name | None) -> bytes:
        first, *_rest = (octets(token.value) for token in tokens.get_remaining())
        return struct.pack("!B", len(first)) + first


class _Number(_OwnRdata):
    """RDATA of UID and GID records: one number."""

    @classmethod
    def octets_of(cls, tokens: dns.tokenizer.Tokenizer, _origin: dns.name.Name | None) -> bytes:
        return struct.pack("!I", tokens.get_uint32())


class _Hex(_OwnRdata):
    """RDATA of EID, NIMLOC and NULL records, written as hexadecimal digits.

    NULL has no text form in RFC 1035 §3.3.10.
    """

    @classmethod
    def octets_of(cls, tokens: dns.tokenizer.Tokenizer, _origin: dns.name.Name | None) -> bytes:
        return bytes.fromhex(tokens.concatenate_remaining_identifiers())


class _TrustAnchor(dns.rdtypes.dsbase.DSBase):
    """RDATA of a TA record, in the form of a DS record."""


_LACKING: Final[dict[int, type[dns.rdata.Rdata]]] = {
    Type.MB: _OneName,
    Type.MD: _OneName,
    Type.MF: _OneName,
    Type.MG: _OneName,
    Type.MR: _OneName,
    Type.NULL: _Hex,
    Type.MINFO: _TwoNames,
    Type.NXT: _Nxt,
    Type.EID: _Hex,
    Type.NIMLOC: _Hex,
    Type.RKEY: _Key,
    Type.TALINK: _TwoNames,
    Type.UINFO: _String,
    Type.UID: _Number,
    Type.GID: _Number,
    Type.TA: _TrustAnchor,
}


def _register() -> None:
    for number, kind in _LACKING.items():
        mnemonic = type_text(number)
        known = dns.rdata.get_rdata_class(dns.rdataclass.ANY, _rdtype(number), use_generic=False)  # type: ignore[no-untyped-call]
        if known is not None:
            continue  # a later version of dnspython, or another module, has registered the type
        dns.rdata.register_type(SimpleNamespace(**{mnemonic: kind}), number, mnemonic, rdclass=dns.rdataclass.ANY)


_register()


# -- words in a form that dnspython accepts


def _strings(words: list[str], warn: Warn) -> list[str]:
    """Divides each string of more than 255 octets into several strings, as CoreDNS does (RFC 1035 §3.3.14)."""
    if not words:
        warn("no character string is taken as an empty one")
        return [Quoted("")]
    if all(len(word) < 256 for word in words):
        return words
    out: list[str] = []
    for word in words:
        data = octets(word)
        out += (escaped(data[at : at + 255]) for at in range(0, max(1, len(data)), 255))
    return out


def _host_information(words: list[str], warn: Warn) -> list[str]:
    """Returns the two strings of a HINFO record.

    As in CoreDNS, both may be in one word, and a string may be missing.
    """
    if not words:
        warn("no character string is taken as an empty one")
        words = [Quoted("")]
    if len(words) == 1:
        words = [Quoted(part) for part in words[0].split()] or [Quoted("")]
    return [words[0], Quoted(" ".join(words[1:]))]


_SECONDS: Final = re.compile(r"(\d+)\.(\d*)")
_METRES: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))[mM]?")


def _location(words: list[str], _warn: Warn) -> list[str]:
    """Converts the words of a LOC record (RFC 1876 §3) to the form that dnspython accepts.

    Letters may be lower-case, fractions may have any length, and altitudes are rounded to centimetres.
    """
    out: list[str] = []
    letters = 0
    for word in words:
        seconds, metres = _SECONDS.fullmatch(word), _METRES.fullmatch(word)
        if word.upper() in ("N", "S", "E", "W"):
            letters += 1
            out.append(word.upper())
        elif letters < 2 and seconds is not None:
            out.append(f"{seconds[1]}.{(seconds[2] + '000')[:3]}")
        elif letters < 2 or metres is None:
            out.append(word)
        elif out[-1] in ("E", "W"):
            # dnspython cuts the product of two floating point numbers; a little more than a centimetre stays one.
            centimetres = round(float(metres[1]) * 100)
            sign = "-" if centimetres < 0 else ""
            out.append(f"{sign}{abs(centimetres) // 100}.{abs(centimetres) % 100:02d}1")
        else:
            out.append(metres[1])
    return out


def _upper(*places: int) -> Callable[[list[str], Warn], list[str]]:
    """Returns a function that converts the words at these indexes to upper case."""

    def change(words: list[str], _warn: Warn) -> list[str]:
        return [word.upper() if place in places else word for place, word in enumerate(words)]

    return change


_PREPARED: Final[dict[int, Callable[[list[str], Warn], list[str]]]] = {
    **dict.fromkeys((Type.TXT, Type.SPF, Type.AVC, Type.NINFO, Type.RESINFO, Type.WALLET), _strings),
    Type.HINFO: _host_information,
    Type.LOC: _location,
    **dict.fromkeys((Type.DS, Type.CDS, Type.DLV, Type.TA), _upper(1)),
    **dict.fromkeys((Type.DNSKEY, Type.CDNSKEY, Type.KEY), _upper(2)),
}


# -- RDATA that CoreDNS accepts and dnspython does not


Lenient = Callable[[int, list[str], dns.name.Name], bytes]


def _digest(form: str, digits: int) -> Lenient:
    """Returns a function that encodes numbers and a digest, without a check of the digest's length.

    `form` is the `struct` format of the numbers. `digits` is the index of the digest's first word.
    """

    def make(_rtype: int, words: list[str], _origin: dns.name.Name) -> bytes:
        numbers = (
            int(word) if word.isdecimal() else dns.dnssectypes.Algorithm.from_text(word) for word in words[:digits]
        )
        return struct.pack(form, *numbers) + bytes.fromhex("".join(words[digits:]))

    return make


_KEYS: Final = {
    "mandatory": 0,
    "alpn": 1,
    "no-default-alpn": 2,
    "port": 3,
    "ipv4hint": 4,
    "ech": 5,
    "ipv6hint": 6,
    "dohpath": 7,
    "ohttp": 8,
}
"""The keys of SVCB and HTTPS parameters (RFC 9460 §14.3.2, RFC 9461, RFC 9540)."""


def _service(_rtype: int, words: list[str], origin: dns.name.Name) -> bytes:
    """Encodes SVCB and HTTPS RDATA. Contradictions between parameters are not errors (RFC 9460 §2.4.3, §8)."""
    tokens = _Tokens(words)
    head = struct.pack("!H", tokens.get_uint16()) + _wire_name(tokens, origin)
    params: dict[int, bytes] = {}
    rest = words[2:]
    while rest:
        key, _, value = rest.pop(0).partition("=")
        if not value and rest and isinstance(rest[0], Attached):
            value = rest.pop(0)
        number = _KEYS[key] if key in _KEYS else int(key.removeprefix("key"))
        if number in params:
            raise ValueError(f"parameter {key} stands twice")
        params[number] = _parameter(number, value, origin) if key in _KEYS else _opaque(number, octets(value))
    return head + b"".join(struct.pack("!HH", number, len(data)) + data for number, data in sorted(params.items()))


def _parameter(number: int, value: str, origin: dns.name.Name) -> bytes:
    if number == 0:
        keys = sorted(_KEYS[key] if key in _KEYS else int(key.removeprefix("key")) for key in value.split(","))
        return b"".join(struct.pack("!H", key) for key in keys)
    if number == 5:
        return binascii.a2b_base64(value)
    if number in (2, 8):
        if value:
            raise ValueError("a parameter without a value has one")
        return b""
    if number in (1, 3, 4, 6):
        kinds = {1: "alpn", 3: "port", 4: "ipv4hint", 6: "ipv6hint"}
        wire = _by_dnspython(Type.SVCB, ["1", ".", f"{kinds[number]}=", Attached(value)], origin)
        return wire[7:]
    return octets(value)


def _opaque(number: int, value: bytes) -> bytes:
    """Returns the value of a service parameter that is written as `keyNNNNN` (RFC 9460 §2.1).

    If dnspython knows the parameter by name, checks that the value is valid.
    """
    if number not in (0, 2):  # not `mandatory` and `no-default-alpn`, which refer to other parameters
        wire = b"\x00\x01\x00" + struct.pack("!HH", number, len(value)) + value
        dns.rdata.from_wire(_IN, _rdtype(Type.SVCB), wire, 0, len(wire))
    return value


def _start_of_authority(rtype: int, words: list[str], origin: dns.name.Name) -> bytes:
    """Encodes SOA RDATA. Numbers that are missing at the end become zeros."""
    if not 3 <= len(words) < 7:
        raise ValueError
    return _by_dnspython(rtype, [*words, *["0"] * (7 - len(words))], origin)


def _property(_rtype: int, words: list[str], _origin: dns.name.Name) -> bytes:
    """Encodes the RDATA of a CAA record. The tag may have any characters."""
    flags, tag, value = (octets(word) for word in words)
    return struct.pack("!BB", int(flags), len(tag)) + tag + value


def _without_digits(rtype: int, words: list[str], origin: dns.name.Name) -> bytes:
    """Encodes RDATA whose key or signature is empty, which dnspython does not accept."""
    begin, decode = _DIGITS[rtype]
    if len(words) != begin:
        raise ValueError
    return _by_dnspython(rtype, [*words, "00" if decode is bytes.fromhex else "AA=="], origin)[:-1]


_LENIENT: Final[dict[int, Lenient]] = {
    **dict.fromkeys((Type.DS, Type.CDS, Type.DLV, Type.TA), _digest("!HBB", 3)),
    **dict.fromkeys((Type.TLSA, Type.SMIMEA), _digest("!BBB", 3)),
    Type.SSHFP: _digest("!BB", 2),
    Type.ZONEMD: _digest("!IBB", 3),
    Type.CAA: _property,
    Type.SOA: _start_of_authority,
    Type.URI: lambda _rtype, words, _origin: struct.pack("!HH", int(words[0]), int(words[1])) + octets(words[2]),
    **dict.fromkeys((Type.SVCB, Type.HTTPS), _service),
}


_UNCHECKED: Final = frozenset(
    {
        *(Type.AMTRELAY, Type.CSYNC, Type.GPOS, Type.HINFO, Type.HIP, Type.IPSECKEY, Type.ISDN, Type.L64, Type.NID),
        *(Type.NSEC, Type.NSEC3PARAM, Type.NXT, Type.UINFO, Type.X25),
    }
)
"""Types whose RDATA CoreDNS does not check in full when it reads a zone."""


# -- digits that CoreDNS checks only when it sends them


def _base64(digits: str) -> bytes:
    return binascii.a2b_base64(digits, strict_mode=True)


_DIGITS: Final[dict[int, tuple[int, Callable[[str], object]]]] = {
    **dict.fromkeys((Type.DNSKEY, Type.CDNSKEY, Type.KEY, Type.RKEY, Type.CERT), (3, _base64)),
    **dict.fromkeys((Type.RRSIG, Type.SIG), (8, _base64)),
    **dict.fromkeys((Type.OPENPGPKEY, Type.DHCID), (0, _base64)),
    Type.IPSECKEY: (4, _base64),
    **dict.fromkeys((Type.DS, Type.CDS, Type.DLV, Type.TA, Type.TLSA, Type.SMIMEA, Type.ZONEMD), (3, bytes.fromhex)),
    Type.SSHFP: (2, bytes.fromhex),
    **dict.fromkeys((Type.EID, Type.NIMLOC), (0, bytes.fromhex)),
}
"""Types whose RDATA ends in base64 or hexadecimal digits.

For each type: the number of words before the digits, and the function that decodes the digits.
"""
