"""Zone files: records from text in the master file format (RFC 1035 §5.1).

This module reads lines, parentheses, quotes, owners and directives; each error has file and line. `wire.names` reads
names and holds their limits. dnslib reads the RDATA of most types. The RDATA of other types has the form of RFC 3597 §5
(`\\# length hex`). `$INCLUDE` reads further files.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from dnslib import RD, DNSBuffer, DNSError
from dnslib.dns import RDMAP

from svcdns.errors import SvcdnsError
from svcdns.wire import names
from svcdns.wire.codes import Class, Type
from svcdns.wire.errors import NameTextError
from svcdns.wire.record import Record

MAX_INCLUDES: Final = 8
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_TTL: Final = re.compile(r"(?:\d+[smhdw]?)+", re.IGNORECASE)
_TOKEN: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|;[^\n]*|([()])|((?:[^\s;()"\\]|\\.)+)|\n', re.DOTALL)


class ZoneFileError(SvcdnsError):
    """A zone file with an error; the text names file and line."""


class _Word(NamedTuple):
    text: str
    quoted: bool = False


class _Line(NamedTuple):
    """One entry, with its parentheses resolved. `blank`: it starts with white space, so its owner is that of the last
    record.
    """

    number: int
    blank: bool
    words: list[_Word]


class _Buffer(DNSBuffer):
    """A buffer into which dnslib writes uncompressed names, as in `Record`."""

    def encode_name(self, name: object) -> None:
        self.encode_name_nocompress(name)


def read(text: str, origin: bytes, path: str, default_ttl: int = 3600) -> list[Record]:
    """The records of a zone file, in file order. `origin` is the zone's name; `path` names the file in errors. Raises
    ZoneFileError.
    """
    return _Reader(origin, path, default_ttl).run(text)


def read_record(text: str, default_ttl: int = 3600) -> Record:
    """The first record of a text, of any class, with names relative to the root. No file is read.
    Raises ZoneFileError.
    """
    found = _Reader(names.ROOT, "text", default_ttl, depth=MAX_INCLUDES, classes=frozenset(Class.__members__)).run(text)
    if not found:
        raise ZoneFileError("text without a record")
    return found[0]


class _Reader:
    def __init__(
        self, origin: bytes, path: str, ttl: int, depth: int = 0, classes: frozenset[str] = frozenset({"IN"})
    ) -> None:
        self.origin, self.path, self.ttl, self.depth, self.classes = origin, path, ttl, depth, classes
        self.owner: bytes | None = None
        self.number = 0
        self.records: list[Record] = []

    def run(self, text: str) -> list[Record]:
        for line in self._lines(text):
            self.number = line.number
            try:
                self._entry(line)
            except NameTextError as error:
                raise self._error(str(error)) from error
        return self.records

    def _error(self, what: str) -> ZoneFileError:
        return ZoneFileError(f"{self.path}:{self.number}: {what}")

    def _lines(self, text: str) -> Iterator[_Line]:
        number, depth, start, blank = 1, 0, 1, False
        words: list[_Word] = []
        at_start = True
        position = 0
        while position < len(text):
            if text[position] in " \t\r":
                blank = blank or (at_start and not depth)
                at_start = False
                position += 1
                continue
            found = _TOKEN.match(text, position)
            if found is None:
                self.number = number
                raise self._error("a quote or escape without its end")
            if at_start and not depth and not words:
                blank = False
            position = found.end()
            token = found[0]
            if token == "\n":
                number += 1
                if not depth:
                    if words:
                        yield _Line(start, blank, words)
                    words, blank, at_start, start = [], False, True, number
                continue
            at_start = False
            if found[2]:
                depth += 1 if found[2] == "(" else -1
                if depth < 0:
                    self.number = number
                    raise self._error("')' without '('")
            elif not token.startswith(";"):
                if not words:
                    start = number
                words.append(_Word(found[1], quoted=True) if found[1] is not None else _Word(found[3]))
                number += token.count("\n")
        if depth:
            self.number = start
            raise self._error("'(' without ')'")
        if words:
            yield _Line(start, blank, words)

    def _entry(self, line: _Line) -> None:
        words = line.words
        first = words[0].text
        if first.startswith("$") and not words[0].quoted and not line.blank:
            self._directive(first.upper(), [word.text for word in words[1:]])
            return
        if not line.blank:
            self.owner = self._name(first)
            words = words[1:]
        if self.owner is None:
            raise self._error("the first record has no owner name")
        self._record(words)

    def _directive(self, name: str, words: list[str]) -> None:
        if not words:
            raise self._error(f"{name} needs a value")
        if name == "$ORIGIN":
            self.origin = self._name(words[0])
        elif name == "$TTL":
            self.ttl = self._seconds(words[0])
        elif name == "$INCLUDE":
            self._include(words)
        else:
            raise self._error(f"unknown directive {name}; $ORIGIN, $TTL or $INCLUDE was expected")

    def _include(self, words: list[str]) -> None:
        if self.depth >= MAX_INCLUDES:
            raise self._error(f"$INCLUDE deeper than {MAX_INCLUDES} files")
        path = Path(self.path).parent / words[0]
        origin = self._name(words[1]) if len(words) > 1 else self.origin
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise self._error(f"cannot include {path}: {error}") from error
        inner = _Reader(origin, str(path), self.ttl, self.depth + 1)
        inner.owner = self.owner
        self.records += inner.run(text)

    def _record(self, words: list[_Word]) -> None:
        ttl, rclass, rest = self.ttl, Class.IN, list(words)
        while rest and not rest[0].quoted:
            text = rest[0].text
            if _TTL.fullmatch(text):
                ttl = self._seconds(text)
            elif text.upper() in self.classes:
                rclass = Class[text.upper()]
            else:
                break
            rest.pop(0)
        if not rest:
            raise self._error("a type was expected behind the owner name")
        kind = rest.pop(0).text.upper()
        if kind in ("CH", "HS", "CS"):
            raise self._error(f"class {kind}; IN was expected")
        rtype = self._type(kind)
        assert self.owner is not None
        self.records.append(Record(self.owner, rtype, ttl, self._rdata(kind, rtype, rest), rclass))

    def _type(self, text: str) -> int:
        if text in Type.__members__:
            return int(Type[text])
        if text.startswith("TYPE") and text[4:].isdecimal() and int(text[4:]) < 65536:
            return int(text[4:])
        raise self._error(f"unknown type {text}")

    def _rdata(self, kind: str, rtype: int, words: list[_Word]) -> bytes:
        if not words:
            raise self._error(f"{kind} without data")
        if words[0].text == "\\#" and not words[0].quoted:
            return self._generic(words)
        own = _OWN.get(rtype)
        try:
            if own is not None:
                return own(self, [word.text for word in words])
            if kind in ("TXT", "SPF"):
                return self._strings(words)
            if kind not in RDMAP:
                raise self._error(f"data of type {kind} has to be written as \\# LENGTH HEX (RFC 3597)")
            return self._by_dnslib(kind, [word.text for word in words])
        except (ValueError, IndexError, KeyError, struct.error, DNSError) as error:
            raise self._error(f"{kind} data is wrong: {error}") from error

    def _generic(self, words: list[_Word]) -> bytes:
        try:
            length, data = int(words[1].text), bytes.fromhex("".join(word.text for word in words[2:]))
        except (ValueError, IndexError) as error:
            raise self._error(f"\\# needs a length and hexadecimal data: {error}") from error
        if len(data) != length:
            raise self._error(f"\\# says {length} octets, {len(data)} follow")
        return data

    def _by_dnslib(self, kind: str, words: list[str]) -> bytes:
        rdata: RD = RDMAP[kind].fromZone(words, names.to_text(self.origin))
        buffer = _Buffer()
        rdata.pack(buffer)
        return bytes(buffer.data)

    def _strings(self, words: list[_Word]) -> bytes:
        out = b""
        for word in words:
            data = _unescaped(word.text)
            if len(data) > 255:
                raise self._error(f"string of {len(data)} octets; at most 255 are allowed")
            out += bytes((len(data),)) + data
        return out

    def _name(self, text: str) -> bytes:
        if text == "@":
            return self.origin
        name = names.from_text(text)
        if _is_absolute(text):
            return name
        return names.from_labels([*names.labels_of(name), *names.labels_of(self.origin)])

    def _seconds(self, text: str) -> int:
        if not _TTL.fullmatch(text):
            raise self._error(f"'{text}' is not a TTL")
        parts = re.findall(r"(\d+)([smhdw]?)", text.lower())
        seconds = sum(int(number) * _UNITS[unit or "s"] for number, unit in parts)
        if seconds > 0x7FFFFFFF:
            raise self._error(f"TTL {seconds} is above 2147483647")
        return seconds

    # -- data that is names and numbers

    def ipv4(self, words: list[str]) -> bytes:
        """An IPv4 address."""
        (address,) = words
        return ipaddress.IPv4Address(address).packed

    def ipv6(self, words: list[str]) -> bytes:
        """An IPv6 address in any of its forms (RFC 4291 §2.2), that with an IPv4 address at its end too, which dnslib
        does not read.
        """
        (address,) = words
        return ipaddress.IPv6Address(address).packed

    def one_name(self, words: list[str]) -> bytes:
        """A name alone: NS, CNAME, PTR, DNAME."""
        (name,) = words
        return self._name(name)

    def preference(self, words: list[str]) -> bytes:
        """A number and a name: MX, AFSDB, KX."""
        number, name = words
        return struct.pack("!H", int(number)) + self._name(name)

    def srv(self, words: list[str]) -> bytes:
        """RFC 2782."""
        priority, weight, port, name = words
        return struct.pack("!HHH", int(priority), int(weight), int(port)) + self._name(name)

    def soa(self, words: list[str]) -> bytes:
        """RFC 1035 §3.3.13."""
        mname, rname, serial, *times = words
        refresh, retry, expire, minimum = (self._seconds(time) for time in times)
        return (
            self._name(mname) + self._name(rname) + struct.pack("!IIIII", int(serial), refresh, retry, expire, minimum)
        )

    def two_names(self, words: list[str]) -> bytes:
        """RP, RFC 1183 §2.2."""
        first, second = words
        return self._name(first) + self._name(second)

    def hinfo(self, words: list[str]) -> bytes:
        """RFC 1035 §3.3.2."""
        cpu, system = words
        return self._strings([_Word(cpu), _Word(system)])

    def uri(self, words: list[str]) -> bytes:
        """RFC 7553 §4.5."""
        priority, weight, target = words
        return struct.pack("!HH", int(priority), int(weight)) + _unescaped(target)


_OWN: Final[dict[int, Callable[[_Reader, list[str]], bytes]]] = {
    Type.A: _Reader.ipv4,
    Type.AAAA: _Reader.ipv6,
    Type.NS: _Reader.one_name,
    Type.CNAME: _Reader.one_name,
    Type.PTR: _Reader.one_name,
    Type.DNAME: _Reader.one_name,
    Type.MX: _Reader.preference,
    Type.AFSDB: _Reader.preference,
    Type.KX: _Reader.preference,
    Type.SRV: _Reader.srv,
    Type.SOA: _Reader.soa,
    Type.RP: _Reader.two_names,
    Type.HINFO: _Reader.hinfo,
    Type.URI: _Reader.uri,
}


def _is_absolute(text: str) -> bool:
    """Whether the final dot is one, and not an escaped one."""
    return text.endswith(".") and (len(text) - len(text[:-1].rstrip("\\"))) % 2 == 1


def _unescaped(text: str) -> bytes:
    """A character string's octets (RFC 1035 §5.1)."""

    def octet(found: re.Match[bytes]) -> bytes:
        digits = found[1]
        return bytes((int(digits),)) if digits.isdigit() else digits

    return re.sub(rb"\\(\d{3}|.)", octet, text.encode(), flags=re.DOTALL)
