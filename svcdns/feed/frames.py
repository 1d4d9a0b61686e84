"""The feed from control to a worker, and what the worker sends back: msgpack in frames (`svcdns.process.framing`).

Control sends its epoch first, then configuration, data of plugins and the cluster's changes. A worker keeps what it has
until the epoch's `Complete` of a kind, so it answers on through a restart of control.

Rule: the types that control sends (`ToWorker`) are the format (`svcdns.feed.format`). Those that a worker reads
(`FromControl`) are the same on the wire; they differ in what is decoded at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, TypeVar

import msgspec

from svcdns.cluster.changes import Change, EncodedChange, EncodedPut, Kind
from svcdns.corefile.blocks import Corefile
from svcdns.process.framing import Deframer, framed


class SourceKinds(msgspec.Struct, frozen=True, array_like=True):
    """A cluster view: its number, which is the same in every control process, its encoded watch
    options, and its kinds.
    """

    number: int
    watch: bytes
    kinds: tuple[Kind, ...]


class Epoch(msgspec.Struct, frozen=True, array_like=True, tag="epoch"):
    """A new control process. What follows is complete for each kind after its `Complete`; `share` as in `Allow`."""

    number: int
    share: float = 1.0


class Allow(msgspec.Struct, frozen=True, array_like=True, tag="allow"):
    """The part of their usual size that answer tables and caches may have from now on; it follows the free memory of
    the container.
    """

    share: float


class Configure(msgspec.Struct, frozen=True, array_like=True, tag="configure"):
    """A Corefile to build chains from, beside the live ones.

    `hosts` has the addresses of each block, `("",)` for all; `sources` has the cluster views that it uses;
    `local_addresses` has those of the machine, without loopback.
    """

    generation: int
    corefile: Corefile
    hosts: tuple[tuple[str, ...], ...]
    sources: tuple[SourceKinds, ...]
    local_addresses: tuple[str, ...] = ()


class Swap(msgspec.Struct, frozen=True, array_like=True, tag="swap"):
    """The chains of that generation become live."""

    generation: int


class Changed(msgspec.Struct, frozen=True, array_like=True, tag="changed"):
    """A change of one cluster view."""

    source: int
    change: Change


class EncodedChanged(msgspec.Struct, frozen=True, array_like=True, tag="changed"):
    """`Changed` as a worker reads it: an object in it stays encoded, as the index keeps it."""

    source: int
    change: EncodedChange


class Data(msgspec.Struct, frozen=True, array_like=True, tag="data"):
    """Data for a plugin under its own key. From control: the contents of a file. From a worker:
    data for all workers.
    """

    plugin: str
    key: str
    payload: bytes


class Configured(msgspec.Struct, frozen=True, array_like=True, tag="configured"):
    """From the worker: the chains of that generation are built, or the error."""

    generation: int
    error: str = ""


ToWorker = Epoch | Allow | Configure | Swap | Changed | Data
FromControl = Epoch | Allow | Configure | Swap | EncodedChanged | Data
ToControl = Configured | Data

T = TypeVar("T")
_encoder: Final = msgspec.msgpack.Encoder()


def frame(content: ToWorker | ToControl) -> bytes:
    """The octets of a frame. Raises FrameTooLargeError."""
    return framed(_encoder.encode(content))


def put_frame(source: int, encoded: bytes) -> bytes:
    """The frame of `Changed(source, Put(object))` for an object that is encoded already. Raises FrameTooLargeError."""
    return framed(_encoder.encode(EncodedChanged(source, EncodedPut(msgspec.Raw(encoded)))))


class FrameReader(Generic[T]):
    """Decodes a stream of frames. `feed` takes octets as they come, `frames` gives what is complete, one by one."""

    def __init__(self, kinds: Any) -> None:
        """`kinds` is the union of frame types to decode: `FromControl` or `ToControl`."""
        self._decode: Callable[[bytes], T] = msgspec.msgpack.Decoder(kinds).decode
        self._frames = Deframer()

    def feed(self, data: bytes) -> None:
        """Takes octets in."""
        self._frames.feed(data)

    def frames(self) -> Iterator[T]:
        """Complete frames; those not taken stay for the next call. Raises FrameTooLargeError and
        msgspec.DecodeError.
        """
        return map(self._decode, self._frames.contents())
