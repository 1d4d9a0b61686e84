"""Reads zone files: parses text in the master file format (RFC 1035 §5.1) into records.

The modules `zone_words`, `plain_rdata` and `rdata_text` parse words and RDATA. Rules:

1. Octets outside ASCII become part of names and strings unchanged.
2. A record without a TTL gets the TTL of `$TTL`, or else of the previous record, or else the minimum of the SOA record
   (RFC 1035 §5.1, RFC 2308 §4).
3. Text that CoreDNS leaves out or misreads causes a warning. Text that CoreDNS refuses causes an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from svcdns.wire import names
from svcdns.wire.codes import Class, Type, type_text
from svcdns.wire.errors import NameTextError
from svcdns.wire.plain_rdata import META_TYPES, RdataTextError, UnsendableError, plain
from svcdns.wire.record import Record
from svcdns.wire.zone_words import Entry, Quoted, Text, ZoneFileError, mended

__all__ = ["MAX_INCLUDES", "ZoneFileError", "first_soa", "read", "read_record"]

MAX_INCLUDES: Final = 8
FALLBACK_TTL: Final = 3600
"""The TTL of records for which the file has no TTL: no `$TTL`, no record with a TTL, and no SOA record."""
_MAX_GENERATED: Final = 65536
_MAX_TTL_TEXT: Final = 100
_MAX_MESSAGE: Final = 160
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_TTL: Final = re.compile(r"[0-9]+(?:[smhdw][0-9]+)*[smhdw]?", re.IGNORECASE)
_TTL_PART: Final = re.compile(r"([0-9]+)([smhdw]?)")
_RANGE: Final = re.compile(r"([0-9]{1,10})-([0-9]{1,10})(?:/([0-9]{1,10}))?")
_PLACE: Final = re.compile(r"\\.|\$\$|\$\{([^}]*)\}|\$(\{)?", re.DOTALL)
_MODIFIER: Final = re.compile(r"([+-]?[0-9]{1,10})(?:,([0-9]{1,10})(?:,([doxXnN]))?)?")
_TYPES: Final = {type_text(number): number for number in Type if number not in META_TYPES}
_DIRECTIVES: Final = ("$ORIGIN", "$TTL", "$INCLUDE", "$GENERATE")
_UNKNOWN: Final = -1
_NOTED: Final = frozenset({Type.SOA, Type.NSEC3})

Warn = Callable[[str], None]
OctetsOf = Callable[[Path], bytes]


def _ignored(_text: str) -> None:
    return None


class _Header(NamedTuple):
    """The fields of a record before its RDATA.

    `ttl` is None if the record has no TTL. `data` is the index of the first RDATA word.
    """

    ttl: int | None
    rclass: int
    rtype: int
    data: int


class _Found:
    """The records that were found in a zone file and its included files. `zone` is the zone's name in lower case."""

    def __init__(self, zone: bytes) -> None:
        self.zone = zone
        self.minimum: int | None = None
        """The minimum of the first SOA record, or None before that record."""
        self.has_soa = self.has_nsec3 = False


class _SoaFound(Exception):
    """Raised to end the reading after the first SOA record."""


def read(
    text: bytes | str, origin: bytes, path: str, warn: Warn = _ignored, octets_of: OctetsOf = Path.read_bytes
) -> list[Record]:
    """Returns the records of a zone file, in file order. Raises ZoneFileError.

    `origin` is the zone's name, and `path` is the file name for messages. Calls `warn` with a text, which has file,
    line and column, for each record or word that is left out or corrected. `octets_of` returns the content of an
    included file, and raises OSError, ValueError or ZoneFileError.
    """
    reader = _Reader(origin, path, warn, octets_of)
    reader.run(text if isinstance(text, bytes) else text.encode())
    return reader.finished()


def first_soa(text: bytes, origin: bytes, path: str, octets_of: OctetsOf = Path.read_bytes) -> Record | None:
    """Returns the first SOA record of a zone file, or None if the file has no SOA record. Raises ZoneFileError."""
    reader = _Reader(origin, path, _ignored, octets_of)
    reader.until_soa = True
    with suppress(_SoaFound):
        reader.run(text)
    return next((record for record in reader.records if record.rtype == Type.SOA), None)


def read_record(text: str, default_ttl: int = FALLBACK_TTL) -> Record:
    """Returns the first record in `text`, which may be of any class. Raises ZoneFileError.

    Names without a final dot are relative to the root. `$INCLUDE` is an error.
    """
    reader = _Reader(names.ROOT, "text", _ignored)
    reader.last_ttl, reader.depth, reader.any_class = default_ttl, MAX_INCLUDES, True
    reader.run(text.encode())
    if not reader.records:
        raise ZoneFileError("text without a record")
    return reader.finished()[0]


class _Reader:
    def __init__(self, origin: bytes, path: str, warn: Warn, octets_of: OctetsOf = Path.read_bytes) -> None:
        self.origin, self.path, self.warn, self.octets_of = origin, path, warn, octets_of
        self.depth, self.any_class = 0, False
        self.stated_ttl: int | None = None
        """The TTL of the last `$TTL` directive."""
        self.last_ttl: int | None = None
        """The TTL of the last record that has one."""
        self.found = _Found(origin.lower())
        self.until_soa = False
        self.owner: bytes | None = None
        self.records: list[Record] = []
        self._text = Text(b"", path)
        self._place = Entry(0, blank=False, plain=True, words=[]), 0
        """The entry that is being read, and the index of the first RDATA word."""

    def run(self, data: bytes) -> None:
        self._text = Text(data, self.path)
        for entry in self._text.entries():
            first = entry.words[0]
            if first[0:1] == "$" and not entry.blank and first.upper() in _DIRECTIVES and not isinstance(first, Quoted):
                self._directive(first.upper(), entry)
            else:
                self._entry(entry)

    def finished(self) -> list[Record]:
        """Returns all records. Records without a TTL get the minimum of the SOA record as TTL."""
        late = FALLBACK_TTL if self.found.minimum is None else self.found.minimum
        return [
            record if record.ttl != _UNKNOWN else Record(record.owner, record.rtype, late, record.rdata, record.rclass)
            for record in self.records
        ]

    def _error(self, entry: Entry, word: int, what: str) -> ZoneFileError:
        return ZoneFileError(f"{self._text.where(entry, word)}: {_printable(what)}")

    def _warn_here(self, what: str) -> None:
        self._warner(*self._place)(what)

    def _warner(self, entry: Entry, word: int) -> Warn:
        return lambda what: self.warn(f"{self._text.where(entry, word)}: {_printable(what)}")

    # -- records

    def _entry(self, entry: Entry) -> None:
        at = 0
        if entry.ignored >= 0:
            self.warn(f"{self._text.where_ignored(entry)}: ')' without '('; the rest of the line is ignored")
        if not entry.blank:
            self.owner = self._name(entry, 0)
            at = 1
        elif self.owner is None:
            self.owner = self.origin
            self._warner(entry, 0)(f"the first record has no owner name; it is taken for {names.to_text(self.origin)}")
        self._record(entry, entry.words, at, self.owner)

    def _record(self, entry: Entry, words: list[str], at: int, owner: bytes) -> None:
        header = self._header(entry, words, at)
        rtype = header.rtype
        if header.rclass != Class.IN and not self.any_class:
            self._warner(entry, at)(f"class {words[header.data - 2]} is not served; the record is left out")
            return
        if rtype in META_TYPES:
            what = f"{type_text(rtype)} cannot be the type of a record; the record is left out"
            if self.any_class:
                raise self._error(entry, header.data - 1, what)
            self._warner(entry, header.data - 1)(what)
            return
        data = words[header.data :]
        for place, word in enumerate(() if entry.plain else data):
            data[place], wrong = mended(word)
            if wrong:
                self._warner(entry, header.data + place)(f"wrong escape in {word!r}; read as {data[place]!r}")
        self._place = entry, header.data
        try:
            rdata = plain(rtype, data, self.origin) or self._rdata(rtype, data)
        except UnsendableError as error:
            if self.any_class:
                raise self._error(entry, header.data, str(error)) from error
            self._warner(entry, header.data)(f"{words[header.data - 1]} data is wrong, the record is left out: {error}")
            return
        except RdataTextError as error:
            raise self._error(entry, header.data, f"{words[header.data - 1]} data is wrong: {error}") from error
        if rtype == Type.SOA and self.found.minimum is None:
            self.found.minimum = _ttl_value(int.from_bytes(rdata[-4:], "big"))
        self.records.append(Record(owner, rtype, self._ttl(header.ttl), rdata, header.rclass))
        if rtype in _NOTED or not names.is_within(owner.lower(), self.found.zone):
            self._note(entry, owner.lower(), rtype)
            if self.until_soa and rtype == Type.SOA:
                raise _SoaFound

    def _rdata(self, rtype: int, data: list[str]) -> bytes:
        from svcdns.wire.rdata_text import to_wire  # with dnspython

        return to_wire(rtype, data, self.origin, self._warn_here)

    def _note(self, entry: Entry, owner: bytes, rtype: int) -> None:
        """Adds a warning for a record that is not served.

        Adds only one warning for a zone that is signed with NSEC3.
        """
        found, warn = self.found, self._warner(entry, 0)
        if rtype == Type.SOA:
            if owner != found.zone:
                warn(f"SOA record of {names.to_text(owner)}, which is not the zone's name")
            elif found.has_soa:
                warn("another SOA record; the last one is served")
            found.has_soa = found.has_soa or owner == found.zone
        elif not names.is_within(owner, found.zone):
            warn(f"{names.to_text(owner)} is outside the zone {names.to_text(found.zone)}; the record is not served")
        elif not found.has_nsec3:
            found.has_nsec3 = True
            warn("the zone is signed with NSEC3, so that denials come without proofs")

    def _header(self, entry: Entry, words: list[str], at: int) -> _Header:
        """Parses the optional TTL and class, which may be in either order, and the type after them."""
        ttl, rclass = None, None
        for place in range(at, len(words)):
            word = words[place]
            if isinstance(word, Quoted):
                break
            rtype = _TYPES.get(word)
            if rtype is None:
                upper = word.upper()
                if rclass is None and (number := _class_number(upper)) is not None:
                    rclass = number
                    continue
                if ttl is None and _TTL.fullmatch(word):
                    ttl = self._seconds(entry, place, word)
                    continue
                rtype = _type_number(upper)
                if rtype is None:
                    break
            return _Header(ttl, Class.IN if rclass is None else rclass, rtype, place + 1)
        else:
            raise self._error(entry, len(words) - 1, "a type was expected behind the owner name")
        raise self._error(entry, place, f"unknown type {word}")

    def _ttl(self, stated: int | None) -> int:
        if stated is not None:
            self.last_ttl = stated
            return stated
        for known in (self.stated_ttl, self.last_ttl, self.found.minimum):
            if known is not None:
                return known
        return _UNKNOWN

    def _name(self, entry: Entry, word: int) -> bytes:
        text, wrong = mended(entry.words[word])
        if wrong:
            self._warner(entry, word)(f"wrong escape in {entry.words[word]!r}; read as {text!r}")
        try:
            return self._absolute(text)
        except NameTextError as error:
            raise self._error(entry, word, str(error)) from error

    def _absolute(self, text: str) -> bytes:
        if text == "@":
            return self.origin
        name = names.from_text(text)
        if _is_absolute(text):
            return name
        whole = name[:-1] + self.origin
        if len(whole) > names.MAX_NAME:
            raise NameTextError(f"name of {len(whole)} octets; at most {names.MAX_NAME} are allowed")
        return whole

    def _seconds(self, entry: Entry, place: int, text: str) -> int:
        if len(text) > _MAX_TTL_TEXT or not _TTL.fullmatch(text):
            raise self._error(entry, place, f"'{text}' is not a TTL")
        seconds = sum(int(number) * _UNITS[unit or "s"] for number, unit in _TTL_PART.findall(text.lower()))
        if seconds > 0xFFFFFFFF:
            raise self._error(entry, place, f"TTL {seconds} is above 4294967295")
        return _ttl_value(seconds)

    # -- directives

    def _directive(self, name: str, entry: Entry) -> None:
        if len(entry.words) < 2:
            raise self._error(entry, 0, f"{name} needs a value")
        if name == "$ORIGIN":
            self.origin = self._name(entry, 1)
        elif name == "$TTL":
            self.stated_ttl = self._seconds(entry, 1, entry.words[1])
        elif name == "$INCLUDE":
            self._include(entry)
        else:
            self._generate(entry)

    def _include(self, entry: Entry) -> None:
        if self.depth >= MAX_INCLUDES:
            raise self._error(entry, 0, f"$INCLUDE deeper than {MAX_INCLUDES} files")
        path = Path(self.path).parent / os.fsdecode(entry.words[1].encode("iso-8859-1"))
        origin = self._name(entry, 2) if len(entry.words) > 2 else self.origin
        try:
            data = self.octets_of(path)
        except ZoneFileError as error:
            raise self._error(entry, 1, f"cannot include: {error}") from error
        except (OSError, ValueError) as error:  # ValueError: a name with a zero octet
            raise self._error(
                entry, 1, f"cannot include {path}: {getattr(error, 'strerror', None) or error}"
            ) from error
        inner = _Reader(origin, str(path), self.warn, self.octets_of)
        inner.depth, inner.owner = self.depth + 1, self.owner
        inner.stated_ttl, inner.last_ttl = self.stated_ttl, self.last_ttl
        inner.found, inner.until_soa, inner.records = self.found, self.until_soa, self.records
        inner.run(data)

    def _generate(self, entry: Entry) -> None:
        """Makes one record for each number in the range of a `$GENERATE` directive.

        As in BIND, `$` in a word is replaced by the number.
        """
        found = _RANGE.fullmatch(entry.words[1])
        if found is None or int(found[2]) < int(found[1]) or found[3] == "0":
            raise self._error(entry, 1, f"'{entry.words[1]}' is not a range START-STOP[/STEP]")
        numbers = range(int(found[1]), int(found[2]) + 1, int(found[3] or 1))
        if len(numbers) > _MAX_GENERATED:
            raise self._error(entry, 1, f"$GENERATE of {len(numbers)} records; at most {_MAX_GENERATED} are allowed")
        template = entry.words[2:]
        if len(template) < 2:
            raise self._error(entry, 0, "$GENERATE needs an owner name, a type and data")
        for number in numbers:
            try:
                words = [type(word)(_filled(word, number)) for word in template]
                owner = self._absolute(mended(words[0])[0])
            except ValueError as error:
                raise self._error(entry, 2, str(error)) from error
            except NameTextError as error:
                raise self._error(entry, 2, str(error)) from error
            self._record(entry, words, 1, owner)


def _printable(what: str) -> str:
    """Returns a text with escapes for characters other than printable ASCII, cut after _MAX_MESSAGE characters."""
    shown = what if len(what) <= _MAX_MESSAGE else f"{what[:_MAX_MESSAGE]}..."
    return shown if shown.isascii() and shown.isprintable() else ascii(shown)[1:-1]


def _class_number(upper: str) -> int | None:
    return _number(upper[5:]) if upper.startswith("CLASS") else Class.__members__.get(upper)


def _type_number(upper: str) -> int | None:
    return _number(upper[4:]) if upper.startswith("TYPE") else _TYPES.get(upper)


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 30 and int(text) < 65536 else None


def _ttl_value(seconds: int) -> int:
    """Returns the TTL, or 0 if its top bit is set (RFC 2181 §8)."""
    return seconds if seconds <= 0x7FFFFFFF else 0


def _is_absolute(text: str) -> bool:
    """Returns True if the text ends with a dot that is not escaped."""
    return text.endswith(".") and (len(text) - len(text[:-1].rstrip("\\"))) % 2 == 1


def _filled(word: str, number: int) -> str:
    """Returns a word of a `$GENERATE` directive with the number in place of each `$`. Raises ValueError."""
    if "$" not in word:
        return word

    def place(found: re.Match[str]) -> str:
        if found[0] in ("\\$", "$$"):
            return "$"
        if found[0].startswith("\\"):
            return found[0]
        if found[1] is None:
            if found[2]:
                raise ValueError(f"'${{' without '}}' in '{word}'")
            return str(number)
        modifier = _MODIFIER.fullmatch(found[1])
        if modifier is None:
            raise ValueError(f"'{found[1]}' is not OFFSET[,WIDTH[,BASE]] with a base of d, o, x, X, n or N")
        value, width, base = number + int(modifier[1]), int(modifier[2] or 0), modifier[3] or "d"
        if value < 0 or width > 255:
            raise ValueError(f"'{found[1]}' makes a number below zero, or one of more than 255 digits")
        return (
            _nibbles(value, width, base) if base in "nN" else f"{value:0{width}{base}}" if width else f"{value:{base}}"
        )

    return _PLACE.sub(place, word)


def _nibbles(value: int, width: int, base: str) -> str:
    """Returns the hexadecimal digits of `value` in reverse order, with dots between them.

    The result has at least `width` characters, dots included.
    """
    digits = f"{value:{'x' if base == 'n' else 'X'}}".rjust((width + 1) // 2, "0")
    return ".".join(reversed(digits))
