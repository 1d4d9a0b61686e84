"""Converts resource record sets of Route 53 to records, with the rules of CoreDNS.

Rules:

1. In names and values, `\\NNN` is an octet in octal digits. In this form, only the letters a to z, digits, hyphens,
   dots and a leading asterisk are accepted.
2. A record that cannot be read is left out with a log line, and so is the rest of its record set.
3. An alias of Route 53 has no records, so it is left out. Record sets of a routing policy with one name and type become
   one RRset.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from svcdns.wire.record import Record
from svcdns.wire.zone_words import ZoneFileError

_ESCAPE: Final = re.compile(r"[0-7]{3}")
_ACCEPTED: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-.")


class EscapeError(ValueError):
    """Raised if a name or a value has an escape sequence that is not accepted."""


def unescaped(text: str) -> str:
    """Returns a name or a value with characters in place of escape sequences. Raises EscapeError."""
    out = ""
    while (at := text.find("\\")) >= 0:
        out += text[:at]
        digits = text[at + 1 : at + 4]
        if not _ESCAPE.fullmatch(digits) or int(digits, 8) > 127:
            raise EscapeError(f"invalid escape sequence: '\\{digits}'")
        character = chr(int(digits, 8))
        if character == "*" and out:
            raise EscapeError("`*' only supported as wildcard (leftmost label)")
        if character not in _ACCEPTED and character != "*":
            number = int(digits, 8)
            raise EscapeError(f"invalid character: \\{(f'0{number:o}' if number else '0').zfill(3)}")
        out += character
        text = text[at + 4 :]
    return out + text


def records_of(record_set: Mapping[str, Any], records: list[Record]) -> str:
    """Appends the records of a record set to `records`. Returns a log line, or an empty text if all were read."""
    for one in record_set.get("ResourceRecords", ()):
        try:
            records.append(_record(record_set, one.get("Value", "")))
        except (EscapeError, ZoneFileError) as error:
            return f"Failed to process resource record set: {error}"
    return ""


def _record(record_set: Mapping[str, Any], text: str) -> Record:
    from svcdns.wire.zone_text import read_record

    parts = []
    for what, part in (("name", record_set.get("Name", "")), ("value", text)):
        try:
            parts.append(unescaped(part))
        except EscapeError as error:
            raise EscapeError(f"failed to unescape `{part}' {what}: {error}") from error
    name, value = parts
    try:
        return read_record(f"{name} {record_set.get('TTL', 0)} IN {record_set.get('Type', '')} {value}")
    except ZoneFileError as error:
        raise EscapeError(f"failed to parse resource record: {error}") from error
