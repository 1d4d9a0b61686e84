"""Fuzzing targets for domain names in messages and in text. dnspython must read the same names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import dns.exception
import dns.name

from svcdns.wire import names
from svcdns.wire.errors import FormError, NameTextError
from tests.fuzz.target import Target

_HEADER: Final = 12


def check_name(name: bytes) -> None:
    """Checks the rules that hold for every name, and that the name is the same after conversion to text and back."""
    assert 0 < len(name) <= names.MAX_NAME
    labels = names.labels_of(name)
    assert all(0 < len(label) <= names.MAX_LABEL for label in labels)
    assert names.from_labels(labels) == name
    text = names.to_text(name)
    assert text.isascii()
    assert names.from_text(text) == name
    suffixes = names.suffixes(name.lower())
    assert suffixes[-1] == names.ROOT
    assert len(suffixes) == len(labels) + 1
    assert all(names.is_within(name.lower(), suffix) for suffix in suffixes)


def read_by_dnspython(message: bytes, at: int) -> tuple[bytes, int] | None:
    """Returns the name at an offset and the offset after it, or None if dnspython refuses the name."""
    try:
        name, used = dns.name.from_wire(message, at)
    except dns.exception.DNSException:
        return None
    return b"".join(bytes((len(label),)) + label for label in name.labels), at + used


def run_names(data: bytes) -> None:
    """Reads a name in a message. The first octet is the offset of the name."""
    if len(data) < 2:
        return
    message = bytes(_HEADER) + data[1:]
    at = _HEADER + data[0] % len(data[1:])
    reference = read_by_dnspython(message, at)
    try:
        name, after = names.read_name(message, at)
    except FormError:
        assert reference is None or _is_stricter_here(message, at), (at, reference)
        return
    assert reference == (name, after) or (reference is None and _is_laxer_here(message, at))
    check_name(name)


def _is_stricter_here(message: bytes, at: int) -> bool:
    """Returns True if svcdns refuses a name on purpose that dnspython reads. A pointer must not lead into the header
    (RFC 1035 §4.1.4).
    """
    return any(target < _HEADER for target in _targets(message, at))


def _is_laxer_here(message: bytes, at: int) -> bool:
    """Returns True if dnspython refuses the name only because dnspython allows fewer pointers."""
    return dns.name.MAX_COMPRESSION_POINTER_CHAIN < len(_targets(message, at)) <= names.MAX_POINTERS


def _targets(message: bytes, at: int) -> list[int]:
    """Returns the offsets to which the pointers of a name lead. Ends at the first pointer that does not
    lead backwards.
    """
    out = [at]
    while at < len(message) and (length := message[at]):
        if length < 0x40:
            at += 1 + length
        elif length < 0xC0 or at + 2 > len(message):
            break
        else:
            at = (length & 0x3F) << 8 | message[at + 1]
            if at >= out[-1]:
                break
            out.append(at)
    return out[1:]


def run_name_texts(data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return
    try:
        name = names.from_text(text)
    except NameTextError as error:
        assert "\n" not in str(error) or "\n" in text
        return
    check_name(name)


def _names() -> Iterator[bytes]:
    web = names.from_text("web.default.svc.cluster.local.")
    yield b"\0" + web
    yield bytes((len(web),)) + web + b"\3www\xc0\x0c"
    yield bytes((len(web) + 2,)) + web + b"\xc0\x10" + b"\1a" + bytes((0xC0, 12 + len(web)))
    yield b"\2\0\0\xc0\x0e"
    yield b"\0" + b"\x3f" + b"a" * 63 + b"\0"
    yield b"\0\xc0\x00"
    yield b"\0\x41a\0"


def _texts() -> Iterator[bytes]:
    for text in (".", "", "a.b.", "a\\.b.c", "\\255\\000.x.", "a..b", "\\", "\\25", "\\256.", "é.example.", "a" * 64):
        yield text.encode()


TARGETS: Final = (
    Target("names", run_names, _names, 300),
    Target("name_texts", run_name_texts, _texts, 300),
)
