"""Domain names in uncompressed wire format, the form in which the whole program holds names.

A name is `bytes`: labels, each after an octet with its length, and the zero octet of the root (RFC 1035 §3.1).
`bytes.lower()` converts a name to lower case, and does not change length octets. Only this module follows compression
pointers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from svcdns.wire.errors import FormError, NameTextError

ROOT: Final = b"\x00"
MAX_NAME: Final = 255
MAX_LABEL: Final = 63
MAX_POINTERS: Final = 32
"""The most compression pointers that lead to the end of one name. It bounds the time to read a message of pointers."""
_MAX_STEPS: Final = MAX_NAME // 2 + 1 + MAX_POINTERS
"""The most labels and pointers of one name."""
_HEADER: Final = 12

_SPECIAL: Final = frozenset(b'."\\;()@$ ')
_DOT: Final = ord(".")
_PLAIN: Final = bytes(octet for octet in range(0x21, 0x7F) if octet not in _SPECIAL)
_PLAIN_AND_DOT: Final = _PLAIN + b"."


def from_labels(labels: list[bytes] | tuple[bytes, ...]) -> bytes:
    """Returns the name with these labels, leftmost first. The root is not in the list.

    Raises NameTextError if a label is empty, or if a label or the name is too long.
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
    """Returns the name whose presentation form is `text`. The final dot is optional. Raises NameTextError.

    The escapes `\\.` and `\\DDD` are those of RFC 1035 §5.1. Characters outside ASCII are encoded as UTF-8.
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
    """Returns the presentation form of a name, with its final dot.

    Special octets are escaped as in RFC 1035 §5.1 and RFC 4343 §2.1.
    """
    if name == ROOT:
        return "."
    if b"." in name:
        return "".join([label_text(label) + "." for label in labels_of(name)])
    text, at = bytearray(name), 0
    while length := name[at]:
        text[at] = _DOT
        at += 1 + length
    text[at] = _DOT
    if text.translate(None, _PLAIN_AND_DOT):
        return "".join([label_text(label) + "." for label in labels_of(name)])
    return text[1:].decode()


def label_text(label: bytes) -> str:
    """Returns one label in presentation form. A dot or another special octet in the label is escaped."""
    if not label.translate(None, _PLAIN):
        return label.decode()
    return "".join(
        f"\\{octet:03d}" if not 0x21 <= octet <= 0x7E else f"\\{octet:c}" if octet in _SPECIAL else chr(octet)
        for octet in label
    )


def labels_of(name: bytes) -> list[bytes]:
    """Returns the labels of a name, leftmost first, without the root."""
    out, at = [], 0
    while length := name[at]:
        out.append(name[at + 1 : at + 1 + length])
        at += 1 + length
    return out


def is_plain(label: bytes) -> bool:
    """Returns True if no octet of a label is escaped in presentation form."""
    return not label.translate(None, _PLAIN)


def suffixes(name: bytes) -> list[bytes]:
    """Returns the name itself, then each shorter suffix of whole labels, down to the root."""
    out, at = [name], 0
    while length := name[at]:
        at += 1 + length
        out.append(name[at:])
    return out


def ancestors(of: Iterable[bytes]) -> set[bytes]:
    """Returns all names above the names `of`, up to the root, in the same letter case."""
    found: set[bytes] = set()
    for name in of:
        at = 0
        while length := name[at]:
            at += 1 + length
            above = name[at:]
            if above in found:
                break
            found.add(above)
    return found


def is_within(name: bytes, zone: bytes) -> bool:
    """Returns True if `name` is equal to `zone` or below `zone`. Both must be in lower case."""
    if not name.endswith(zone):
        return False
    if zone == ROOT:
        return True
    cut, at = len(name) - len(zone), 0
    while at < cut:
        at += 1 + name[at]
    return at == cut


def read_name(message: bytes, at: int) -> tuple[bytes, int]:
    """Reads the name at offset `at` of a message. Returns the uncompressed name and the offset after the name.

    Raises FormError. Compression pointers (RFC 1035 §4.1.4) must point backwards, to an earlier part of the message
    after the header. A name may have at most MAX_POINTERS pointers.
    """
    return NameReader(message, _MAX_STEPS).read(at)


class NameReader:
    """Reads the names of one message by the rules of `read_name`, in a time that is proportional to the message's
    length.

    The part of a name at the target of a compression pointer is read only once. `steps` is the number of labels and
    pointers that may still be read at targets of pointers.
    """

    __slots__ = ("_known", "_message", "steps")

    def __init__(self, message: bytes, steps: int) -> None:
        self._message, self.steps = message, steps
        self._known: dict[int, tuple[bytes, int, int]] = {}
        """By offset: the name that begins there, the offset after its first part, and the number of its pointers."""

    def read(self, at: int) -> tuple[bytes, int]:
        """Returns the uncompressed name at offset `at`, and the offset after the name.

        Raises FormError if the name is malformed, or if the limit `steps` is reached.
        """
        message, start = self._message, at
        try:
            while 0 < (length := message[at]) <= MAX_LABEL:
                at += 1 + length
                if at - start >= MAX_NAME:
                    raise FormError("name too long")
            if not length:
                return message[start : at + 1], at + 1
            name, _, _ = self._target(at, start, MAX_POINTERS)
        except IndexError:
            raise FormError("name cut off") from None
        if at > start:
            name = message[start:at] + name
            if len(name) > MAX_NAME:
                raise FormError("name too long")
        return name, at + 2

    def _target(self, at: int, limit: int, pointers: int) -> tuple[bytes, int, int]:
        """Returns the value of the dictionary `_known` for the target of the compression pointer at offset `at`.

        The part of the name with the pointer begins at `limit`. At most `pointers` pointers may follow, this one
        included.
        """
        message = self._message
        if message[at] < 0xC0:
            raise FormError("label type that RFC 6891 §5 retired")
        target = (message[at] & 0x3F) << 8 | message[at + 1]
        found = self._known.get(target)
        if found is None:
            if target >= limit or target < _HEADER or not pointers:
                raise FormError("compression pointer that does not point back to a name")
            found = self._known[target] = self._read_part(target, pointers - 1)
        if found[1] > limit or found[2] >= pointers:
            raise FormError("compression pointer that does not point back to a name")
        return found

    def _read_part(self, at: int, pointers: int) -> tuple[bytes, int, int]:
        """Returns the value of the dictionary `_known` for the name at offset `at`, the target of a compression
        pointer.

        `pointers` is the number of pointers that may follow. Raises FormError if the limit `steps` is reached.
        """
        message, start = self._message, at
        while 0 < (length := message[at]) <= MAX_LABEL:
            at += 1 + length
            self.steps -= 1
            if at - start >= MAX_NAME:
                raise FormError("name too long")
        self.steps -= 1
        if self.steps < 0:
            raise FormError("too many compressed names")
        if not length:
            return message[start : at + 1], at + 1, 0
        name, _, more = self._target(at, start, pointers)
        name = message[start:at] + name
        if len(name) > MAX_NAME:
            raise FormError("name too long")
        return name, at + 2, more + 1
