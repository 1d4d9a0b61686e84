"""The feed from control to a worker, and what the worker says back: msgpack frames behind their length.

Control sends its epoch first, then configuration, data of plugins and the cluster's changes. A worker keeps what it has until the
epoch's `Complete` of a kind, so it answers on through a restart of control.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from svcdns.cluster.changes import Change, Kind
from svcdns.corefile.blocks import Corefile

LENGTH: Final = 4
MAX_FRAME: Final = 1 << 28


class SourceKinds(msgspec.Struct, frozen=True, array_like=True):
    """A cluster view: its number, the same in every life of control, the watch options it stands for (encoded), and its kinds."""

    number: int
    watch: bytes
    kinds: tuple[Kind, ...]


class Epoch(msgspec.Struct, frozen=True, array_like=True, tag="epoch"):
    """A new life of control. What follows is complete for each kind once its `Complete` has come; `share` as in `Allow`."""

    number: int
    share: float = 1.0


class Allow(msgspec.Struct, frozen=True, array_like=True, tag="allow"):
    """The part of their usual size that answer tables and caches may have from now on: the container's memory fills up, or has room."""

    share: float


class Configure(msgspec.Struct, frozen=True, array_like=True, tag="configure"):
    """A Corefile to build chains from, beside the ones that serve.

    `hosts` has the addresses of each block, `("",)` for all; `sources` the cluster views it uses; `local_addresses` the machine's own
    ones without loopback.
    """

    generation: int
    corefile: Corefile
    hosts: tuple[tuple[str, ...], ...]
    sources: tuple[SourceKinds, ...]
    local_addresses: tuple[str, ...] = ()


class Swap(msgspec.Struct, frozen=True, array_like=True, tag="swap"):
    """The chains of that generation serve from now on."""

    generation: int


class Changed(msgspec.Struct, frozen=True, array_like=True, tag="changed"):
    """A change of one cluster view."""

    source: int
    change: Change


class Data(msgspec.Struct, frozen=True, array_like=True, tag="data"):
    """What control has read from a file for a plugin, under the plugin's own key. From a worker: what it has found out, for all of them."""

    plugin: str
    key: str
    payload: bytes


class Configured(msgspec.Struct, frozen=True, array_like=True, tag="configured"):
    """From the worker: the chains of that generation are built, or why they are not."""

    generation: int
    error: str = ""


ToWorker = Epoch | Allow | Configure | Swap | Changed | Data
ToControl = Configured | Data

_encoder: Final = msgspec.msgpack.Encoder()


def frame(content: ToWorker | ToControl) -> bytes:
    """A frame's octets: length, then msgpack."""
    data = _encoder.encode(content)
    return len(data).to_bytes(LENGTH, "big") + data


def put_frame(source: int, encoded: bytes) -> bytes:
    """The frame of `Changed(source, Put(object))` for an object that is encoded already."""
    data = _encoder.encode(("changed", source, ("put", msgspec.Raw(encoded), 0.0)))
    return len(data).to_bytes(LENGTH, "big") + data


class FrameReader:
    """Cuts a stream into frames. `feed` takes octets as they come, `frames` gives what is whole, one by one."""

    def __init__(self, kinds: object) -> None:
        """`kinds` is the union of frame types to decode, `ToWorker` or `ToControl`."""
        self._decode = msgspec.msgpack.Decoder(kinds).decode
        self._buffer = bytearray()
        self._at = 0

    def feed(self, data: bytes) -> None:
        """Takes octets in."""
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._buffer += data

    def frames(self) -> Iterator[ToWorker | ToControl]:
        """Whole frames; those not taken stay for the next call."""
        buffer = self._buffer
        while True:
            start = self._at + LENGTH
            if len(buffer) < start:
                return
            end = start + int.from_bytes(buffer[self._at : start], "big")
            if len(buffer) < end:
                return
            content = bytes(buffer[start:end])
            self._at = end
            yield self._decode(content)
