"""The data that the control process sends to the workers: the entries of a source, in shards, and its state.

A changed key changes one shard, so that a change sends a small part of the entries.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final

import msgspec

from svcdns.plugins.etcd.service import Entry

SHARDS: Final = 256


class State(msgspec.Struct, frozen=True, array_like=True):
    """The state of a source.

    `serial` is the Unix time of the last change, 0 before the first list. `problem` is the reason why etcd cannot be
    used now; empty if it can. `keys` and `invalid` count the keys, and those whose values cannot be used.
    """

    serial: int = 0
    problem: str = "not connected yet"
    keys: int = 0
    invalid: int = 0


_entries = msgspec.msgpack.Decoder(list[Entry])
_state = msgspec.msgpack.Decoder(State)
_leases = msgspec.msgpack.Decoder(dict[int, int])


def shard_of(key: bytes) -> int:
    """Returns the number of the shard that has a key."""
    return zlib.crc32(key) % SHARDS


def shard_key(source: str, shard: int) -> str:
    """Returns the key of a shard in the plugin's data. `source` is the key of the etcd cluster in this data."""
    return f"{source} shard {shard}"


def state_key(source: str) -> str:
    """Returns the key of the state in the plugin's data."""
    return f"{source} state"


def leases_key(source: str) -> str:
    """Returns the key of the leases in the plugin's data."""
    return f"{source} leases"


def encode_entries(entries: Iterable[Entry]) -> bytes:
    """Encodes the entries of a shard."""
    return msgspec.msgpack.encode(list(entries))


def decode_entries(payload: bytes) -> list[Entry]:
    """Decodes the entries of a shard."""
    return _entries.decode(payload)


def encode_state(state: State) -> bytes:
    """Encodes the state of a source."""
    return msgspec.msgpack.encode(state)


def decode_state(payload: bytes) -> State:
    """Decodes the state of a source."""
    return _state.decode(payload)


def encode_leases(ends: dict[int, int]) -> bytes:
    """Encodes the ends of leases, by lease: whole seconds on the machine's monotonic clock."""
    return msgspec.msgpack.encode(ends)


def decode_leases(payload: bytes) -> dict[int, int]:
    """Decodes the ends of leases, as `encode_leases` encodes them."""
    return _leases.decode(payload)
