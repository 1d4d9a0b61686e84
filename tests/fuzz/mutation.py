"""Changes to inputs that keep their structure, so that a fuzzer gets past the first check of a format.

A mutator gets an input and a random generator, and returns a changed input. It raises ValueError for an input that does
not have the format. The fuzzer then changes single octets instead. This module does not depend on the targets.
"""

from __future__ import annotations

import copy
import random
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from svcdns.process.framing import LENGTH, framed
from svcdns.wire import names
from svcdns.wire.codes import Class, Type
from svcdns.wire.errors import FormError
from svcdns.wire.request import HEADER

Mutator = Callable[[bytes, random.Random], bytes]
_NUMBERS: Final = (0, 1, -1, 2, 53, 127, 128, 255, 256, 65535, 65536, 1 << 31, (1 << 32) - 1, 1 << 63, 0.5, -0.0, 1e300)
_SCALARS: Final[tuple[Any, ...]] = (
    *_NUMBERS,
    None,
    True,
    False,
    "",
    "a",
    "\0",
    "é",
    "a" * 64,
    "10.0.0.1",
    "::1",
    "None",
)
_MOST_PLACES: Final = 1000
_FIXED: Final = struct.Struct("!HHIH")
_POINTER: Final = 0xC0
_DATA: Final = (
    b"\xc0\x0c", bytes(4), bytes(16), b"\0\1\xc0\x0c", b"\1x\xc0\x0c", b"\xc0\x0c\xc0\x0c" + bytes(20),
)  # fmt: skip
"""RDATA of an alias, an address, a MX record and a SOA record, with pointers to the question."""


def of_trees(load: Callable[[bytes], Any], dump: Callable[[Any], bytes], pool: Sequence[Any] = ()) -> Mutator:
    """Returns a mutator of documents such as JSON. `load` and `dump` convert between octets and lists, dicts and
    scalars. The mutator removes, repeats and exchanges values, or replaces them with values of `pool` or unusual
    values.
    """

    def mutate(data: bytes, rng: random.Random) -> bytes:
        try:
            tree = [load(data)]
            _change(tree, rng, pool)
            return dump(tree[0]) if tree else b""
        except Exception as error:
            raise ValueError("not of the format") from error

    return mutate


def _change(root: list[Any], rng: random.Random, pool: Sequence[Any]) -> None:
    places: list[tuple[Any, Any]] = [(root, 0)]
    for container, key in places:  # grows while it is read; a YAML document may contain itself
        if len(places) > _MOST_PLACES:
            break
        value = container[key]
        if isinstance(value, dict):
            places += [(value, one) for one in value]
        elif isinstance(value, list):
            places += [(value, one) for one in range(len(value))]
    container, key = rng.choice(places)
    other, place = rng.choice(places)
    value = container[key]
    choice = rng.randrange(7)
    if choice == 0 and container is not root:
        del container[key]
    elif choice == 1:
        container[key] = copy.deepcopy(other[place])
    elif choice == 2 and isinstance(container, list) and container is not root:
        container.insert(key, copy.deepcopy(value))
    elif choice == 3 and isinstance(value, dict):
        value[rng.choice([*(str(one) for one in pool if isinstance(one, str)), "x"])] = rng.choice([*pool, *_SCALARS])
    elif choice == 4:
        container[key] = [value] if rng.random() < 0.5 else {"a": value}
    elif isinstance(value, str | bytes) and value and rng.random() < 0.7:
        cut, rest = rng.randrange(len(value)), rng.randrange(len(value))
        container[key] = value[:cut] + value[rest:]  # type: ignore[operator]
    else:
        container[key] = rng.choice([*pool, *_SCALARS])


MSGPACK: Final = (msgspec.msgpack.decode, msgspec.msgpack.encode)
JSON: Final = (msgspec.json.decode, msgspec.json.encode)
"""Pairs of functions for `of_trees`."""


def of_lines(lines: Sequence[str], words: Sequence[str]) -> Mutator:
    """Returns a mutator of texts that consist of lines of words. The mutator adds lines of `lines`, and adds or
    replaces words with `words`.
    """

    def mutate(data: bytes, rng: random.Random) -> bytes:
        text = data.decode(errors="surrogateescape").split("\n")
        at = rng.randrange(len(text))
        choice = rng.randrange(6)
        if choice == 0:
            del text[at]
        elif choice == 1:
            text.insert(at, rng.choice(text))
        elif choice == 2:
            text.insert(at, rng.choice(lines))
        elif choice == 3:
            other = rng.randrange(len(text))
            text[at], text[other] = text[other], text[at]
        else:
            text[at] = _with_another_word(text[at], rng, words)
        return "\n".join(text).encode(errors="surrogateescape")

    return mutate


def _with_another_word(line: str, rng: random.Random, words: Sequence[str]) -> str:
    parts = re.split(r"(\s+)", line)
    at = rng.randrange(len(parts))
    choice = rng.randrange(4)
    if choice == 0:
        del parts[at]
    elif choice == 1:
        parts[at] = re.sub(r"\d+", lambda _: str(rng.choice(_NUMBERS)), parts[at])
    elif choice == 2:
        parts.insert(at, f" {rng.choice(words)} ")
    else:
        parts[at] = rng.choice(words)
    return "".join(parts)


def of_parts(mutator: Mutator, end: bytes = b"\n") -> Mutator:
    """Returns a mutator of texts with several documents, such as JSON lines. `mutator` changes one of the documents."""

    def mutate(data: bytes, rng: random.Random) -> bytes:
        parts = data.split(end)
        _change_one(parts, mutator, rng)
        return end.join(parts)

    return mutate


def _change_one(parts: list[bytes], mutator: Mutator, rng: random.Random) -> None:
    """Changes one of the parts with `mutator`. Sometimes removes a part, or adds a copy of a part, instead."""
    at, choice = rng.randrange(len(parts)), rng.randrange(8)
    if choice == 0:
        del parts[at]
    elif choice == 1:
        parts.insert(at, rng.choice(parts))
    else:
        parts[at] = mutator(parts[at], rng)


def of_frames(mutator: Mutator) -> Mutator:
    """Returns a mutator of streams of frames with length prefixes. `mutator` changes the content of one frame."""

    def mutate(data: bytes, rng: random.Random) -> bytes:
        contents, at = [], 0
        while at + LENGTH <= len(data):
            end = at + LENGTH + int.from_bytes(data[at : at + LENGTH], "big")
            contents.append(data[at + LENGTH : end])
            at = end
        if at != len(data) or not contents:
            raise ValueError("not a stream of frames")
        _change_one(contents, mutator, rng)
        return b"".join(map(framed, contents))

    return mutate


def after(octets: int, mutator: Mutator) -> Mutator:
    """Returns a mutator that keeps the first `octets` octets, and changes the rest with `mutator`."""
    return lambda data, rng: data[:octets] + mutator(data[octets:], rng)


def either(*mutators: Mutator) -> Mutator:
    """Returns a mutator that calls one of several mutators, chosen at random."""
    return lambda data, rng: rng.choice(mutators)(data, rng)


def of_messages(data: bytes, rng: random.Random) -> bytes:
    """Removes, repeats, moves or alters a record of a DNS message, and corrects the counts in the header."""
    try:
        question, sections = _records(data)
    except (FormError, struct.error, IndexError) as error:
        raise ValueError("not a message") from error
    section = rng.choice([one for one in sections if one] or sections)
    choice = rng.randrange(6)
    if choice == 0 or not section:
        rng.choice(sections).append(_new_record(question, rng))
    else:
        at = rng.randrange(len(section))
        if choice == 1:
            del section[at]
        elif choice == 2:
            rng.choice(sections).insert(0, section[at])
        elif choice == 3:
            rng.choice(sections).append(section.pop(at))
        else:
            section[at] = _altered(section[at], question, rng)
    ident, flags, number, *_ = HEADER.unpack_from(data)
    if rng.random() < 0.1:
        flags ^= 1 << rng.randrange(16)
    counts = [len(one) for one in sections]
    head = HEADER.pack(ident, flags, number, *counts)
    return head + question + b"".join(record for one in sections for record in one)


def _records(data: bytes) -> tuple[bytes, list[list[bytes]]]:
    """Returns the question, and the encoded records of the three sections."""
    _, _, questions, *counts = HEADER.unpack_from(data)
    at = HEADER.size
    for _ in range(min(questions, 1)):
        at = names.read_name(data, at)[1] + 4
    question, sections = data[HEADER.size : at], list[list[bytes]]()
    for count in counts:
        section = []
        for _ in range(count):
            start, (_, at) = at, names.read_name(data, at)
            length = _FIXED.unpack_from(data, at)[3]
            at += _FIXED.size + length
            if at > len(data):
                raise FormError("record cut off")
            section.append(data[start:at])
        sections.append(section)
    return question, sections


def _new_record(question: bytes, rng: random.Random) -> bytes:
    rtype = rng.choice(list(Type))
    rdata = rng.choice([*_DATA, rng.randbytes(9)])
    return _some_name(question, rng) + _FIXED.pack(rtype, Class.IN, 60, len(rdata)) + rdata


def _some_name(question: bytes, rng: random.Random) -> bytes:
    """Returns an encoded name: the name of the question, a name above or below it, the root, or a pointer to a random
    offset.
    """
    somewhere = struct.pack("!H", 0xC000 | HEADER.size + rng.randrange(max(1, len(question))))
    return rng.choice([b"\xc0\x0c", b"\xc0\x10", b"\1y\xc0\x0c", b"\0", b"\3com\0", somewhere])


def _altered(record: bytes, question: bytes, rng: random.Random) -> bytes:
    at = 0
    while 0 < record[at] < _POINTER:
        at += 1 + record[at]
    at += 2 if record[at] else 1
    owner, rdata = record[:at], record[at + _FIXED.size :]
    rtype, rclass, ttl, _ = _FIXED.unpack_from(record, at)
    choice = rng.randrange(6)
    if choice == 0:
        owner = _some_name(question, rng)
    elif choice == 1:
        rtype = rng.choice(list(Type))
    elif choice == 2:
        rclass = rng.choice([Class.IN, Class.CH, Class.ANY, 0])
    elif choice == 3:
        ttl = rng.choice([0, 1, 60, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 24, 1 << 16])
    elif choice == 4:
        rdata += rng.randbytes(rng.randrange(4))
    elif rdata:
        cut = rng.randrange(len(rdata))
        rdata = rdata[:cut] + rng.choice([b"", _some_name(question, rng), rng.randbytes(1)]) + rdata[cut + 1 :]
    return owner + _FIXED.pack(rtype, rclass, ttl, len(rdata) & 0xFFFF) + rdata
