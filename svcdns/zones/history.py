"""The history of a zone: the differences between its last versions, for incremental zone transfers (RFC 1995).

Rules:

1. The last version of the history is the zone's content. Each difference begins with the version that the previous
   difference leads to.
2. The history has at most as many octets as the zone's records. LEAST octets are always allowed, and never more than
   MOST.
3. A serial stands for one version. If the content changes and the serial does not grow, the history begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

import msgspec

from svcdns.wire.record import Record
from svcdns.wire.zone_differences import is_newer, serial_of
from svcdns.zones.content import ZoneContent, encode, encoded_portions, portions
from svcdns.zones.content import decode as decode_content
from svcdns.zones.differences import between

LEAST: Final = 64 << 10
MOST: Final = 4 << 20


class _Step(msgspec.Struct, frozen=True, array_like=True):
    """A `Difference` with encoded portions of records."""

    before: Record
    after: Record
    deleted: tuple[bytes, ...]
    added: tuple[bytes, ...]


_steps: Final = msgspec.msgpack.Decoder(_Step)
_records: Final = msgspec.msgpack.Decoder(list[Record])


def encode_version(previous: bytes, soa: Record, records: Sequence[Record], modified: int) -> bytes:
    """Encodes a version of a zone, with the history that leads to it. The arguments are those of `content.encode`.

    `previous` is the encoded previous version, or empty.
    """
    payload = encode(soa, records, modified)
    if not previous:
        return payload
    old, new = decode_content(previous), decode_content(payload)
    if old.soa == soa and old.portions == new.portions:
        history = old.history
    elif is_newer(serial_of(soa), serial_of(old.soa)):
        history = _bounded((*old.history, _step(old, new)), sum(map(len, new.portions)))
    else:
        history = ()
    return msgspec.msgpack.encode(msgspec.structs.replace(new, history=history)) if history else payload


def _step(old: ZoneContent, new: ZoneContent) -> bytes:
    before, deleted, after, added = between(old.soa, _all(old), new.soa, _all(new))
    return msgspec.msgpack.encode(_Step(before, after, encoded_portions(deleted), encoded_portions(added)))


def _all(content: ZoneContent) -> Iterable[Record]:
    return chain.from_iterable(portions(content))


def _bounded(history: tuple[bytes, ...], size: int) -> tuple[bytes, ...]:
    """Returns as many of the last differences as fit into the limit for a zone of `size` octets."""
    left = min(max(size, LEAST), MOST)
    for at in range(len(history) - 1, -1, -1):
        left -= len(history[at])
        if left < 0:
            return history[at + 1 :]
    return history


def since(history: Sequence[bytes], serial: int) -> Iterator[Iterable[Record]] | None:
    """Returns portions of the records of an incremental transfer from a version to the present one (RFC 1995 §4).

    Returns None if the history does not have the version.
    """
    starts = [serial_of(_steps.decode(step).before) for step in history]
    return _transfer(history[starts.index(serial) :]) if serial in starts else None


def _transfer(history: Sequence[bytes]) -> Iterator[Iterable[Record]]:
    last = _steps.decode(history[-1]).after
    yield (last,)
    for encoded in history:
        step = _steps.decode(encoded)
        yield (step.before,)
        yield from map(_records.decode, step.deleted)
        yield (step.after,)
        yield from map(_records.decode, step.added)
    yield (last,)
