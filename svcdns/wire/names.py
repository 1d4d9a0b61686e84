"""Domain names in uncompressed wire format, which the whole program uses.

A name is `bytes`: length-prefixed labels and the root's zero octet (RFC 1035 §3.1), at most 255 octets, labels of at
most 63. Lowering is `bytes.lower()`: a length octet is at most 63 (0x3F) and so never looks like an upper-case letter
(0x41 up). This module converts names from and to text, and splits them. It also reads compressed names from a message:
no other place follows pointers.
"""

from __future__ import annotations

from typing import Final

from svcdns.wire.errors import FormError, NameTextError

ROOT: Final = b"\x00"
MAX_NAME: Final = 255
MAX_LABEL: Final = 63
_HEADER: Final = 12

_SPECIAL: Final = frozenset(b'."\\;()@$ ')
_PLAIN: Final = bytes(octet for octet in range(0x21, 0x7F) if octet not in _SPECIAL)


def from_labels(labels: list[bytes] | tuple[bytes, ...]) -> bytes:
    """The name with these labels, leftmost first, the root left out. Raises NameTextError where a label or the name is
    too long.
    """
    out = bytearray()
    for label in labels:
        if not 0 < len(label) <= MAX_LABEL:
            raise NameTextError(f"label of {len(label)} octets; 1 to {MAX_LABEL} are allowed")
        out.append(len(label))
        out += label
    out.append(0)
    if len(out) > MAX_NAME:
        raise NameTextError(f"name of {len(out)} octets; at most {MAX_NAME} are allowed")
    return bytes(out)


def from_text(text: str) -> bytes:
    """A name from its presentation form, absolute with or without the final dot. Raises NameTextError.

    `\\.` and `\\DDD` are read as RFC 1035 §5.1 says; characters outside ASCII are taken as UTF-8.
    """
    if text in (".", ""):
        return ROOT
    if "\\" not in text:
        return from_labels(text.removesuffix(".").encode().split(b"."))
    return from_labels(_escaped_labels(text))


def _escaped_labels(text: str) -> list[bytes]:
    raw = text.encode()
    labels, label, at = [], bytearray(), 0
    while at < len(raw):
        char = raw[at]
        if char == 0x5C:
            digits = raw[at + 1 : at + 4]
            if len(digits) == 3 and digits.isdigit():
                if int(digits) > 255:
                    raise NameTextError(f"escape \\{digits.decode()} in {text!r}; at most \\255 is allowed")
                label.append(int(digits))
                at += 4
                continue
            if at + 1 >= len(raw):
                raise NameTextError(f"{text!r} ends in a backslash")
            label.append(raw[at + 1])
            at += 2
            continue
        if char == 0x2E:
            labels.append(bytes(label))
            label.clear()
        else:
            label.append(char)
        at += 1
    if label or not raw.endswith(b"."):
        labels.append(bytes(label))
    return labels


def to_text(name: bytes) -> str:
    """The presentation form with its final dot, special octets escaped as RFC 1035 §5.1 and RFC 4343 §2.1 say."""
    if name == ROOT:
        return "."
    return "".join(label_text(label) + "." for label in labels_of(name))


def label_text(label: bytes) -> str:
    """One label in presentation form; a dot or a special octet in it is escaped."""
    if not label.translate(None, _PLAIN):
        return label.decode()
    return "".join(
        f"\\{octet:03d}" if not 0x21 <= octet <= 0x7E else f"\\{octet:c}" if octet in _SPECIAL else chr(octet)
        for octet in label
    )


def labels_of(name: bytes) -> list[bytes]:
    """The labels, leftmost first, the root left out."""
    out, at = [], 0
    while length := name[at]:
        out.append(name[at + 1 : at + 1 + length])
        at += 1 + length
    return out


def suffixes(name: bytes) -> list[bytes]:
    """The name itself, then each shorter suffix down to the root: the order of a longest-match search."""
    out, at = [name], 0
    while length := name[at]:
        at += 1 + length
        out.append(name[at:])
    return out


def is_within(name: bytes, zone: bytes) -> bool:
    """True if `name` is `zone` or below it; both in lower case."""
    if not name.endswith(zone):
        return False
    if zone == ROOT:
        return True
    cut, at = len(name) - len(zone), 0
    while at < cut:
        at += 1 + name[at]
    return at == cut


def read_name(message: bytes, at: int) -> tuple[bytes, int]:
    """The name at offset `at` of a message, and the offset behind it. Raises FormError.

    Follows compression pointers (RFC 1035 §4.1.4), each only to an earlier offset, so no chain of them can loop, and
    none into the header, where an id may look like a label.
    """
    parts: list[bytes] = []
    size, after, limit = 1, -1, at
    try:
        while True:
            length = message[at]
            if length == 0:
                parts.append(ROOT)
                return b"".join(parts), after if after >= 0 else at + 1
            if length <= MAX_LABEL:
                size += length + 1
                if size > MAX_NAME or at + 1 + length > len(message):
                    raise FormError("name too long or cut off")
                parts.append(message[at : at + 1 + length])
                at += 1 + length
                continue
            if length < 0xC0:
                raise FormError("label type that RFC 6891 §5 retired")
            target = (length & 0x3F) << 8 | message[at + 1]
            if target >= limit or target < _HEADER:
                raise FormError("compression pointer that does not point back to a name")
            if after < 0:
                after = at + 2
            at = limit = target
    except IndexError:
        raise FormError("name cut off") from None
