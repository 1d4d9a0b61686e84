"""The frames of the feed, between the control process and a worker: msgpack, framed by `svcdns.process.framing`.

Control sends an `Epoch` first, then configuration, data of plugins and the changes of the cluster. The types `ToWorker`
define the hand-over format (`svcdns.feed.format`). A worker reads the same frames as `FromControl`, in which objects
stay encoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, TypeVar

import msgspec

from svcdns.cluster.changes import Change, EncodedChange, EncodedPut, Kind
from svcdns.corefile.blocks import Corefile
from svcdns.process.framing import Deframer, framed


class SourceKinds(msgspec.Struct, frozen=True, array_like=True):
    """Identifies a cluster view for a worker.

    `number` is the same in every control process. `watch` has the encoded watch options.
    """

    number: int
    watch: bytes
    kinds: tuple[Kind, ...]


class Epoch(msgspec.Struct, frozen=True, array_like=True, tag="epoch"):
    """The first frame of a control process.

    `number` identifies the process. `share` is the size of answer tables and caches, relative to their usual size. The
    worker keeps the objects of the earlier control process until the first `Complete` of their kind.
    """

    number: int
    share: float = 1.0


class Allow(msgspec.Struct, frozen=True, array_like=True, tag="allow"):
    """Sets how large answer tables and caches may be, relative to their usual size."""

    share: float


class Configure(msgspec.Struct, frozen=True, array_like=True, tag="configure"):
    """Requests that the worker builds the plugin chains of a Corefile, while it serves with the present ones.

    `hosts` has the listening addresses of each block, `("",)` for all addresses. `sources` are the cluster views that
    the chains use. `local_addresses` are the addresses of this machine, without loopback.
    """

    generation: int
    corefile: Corefile
    hosts: tuple[tuple[str, ...], ...]
    sources: tuple[SourceKinds, ...]
    local_addresses: tuple[str, ...] = ()


class Swap(msgspec.Struct, frozen=True, array_like=True, tag="swap"):
    """Requests that the worker serves with the plugin chains of the Corefile number `generation`."""

    generation: int


class Changed(msgspec.Struct, frozen=True, array_like=True, tag="changed"):
    """A change of the cluster view with number `source`."""

    source: int
    change: Change


class EncodedChanged(msgspec.Struct, frozen=True, array_like=True, tag="changed"):
    """`Changed` in the form that a worker reads: an object in it stays encoded."""

    source: int
    change: EncodedChange


class Data(msgspec.Struct, frozen=True, array_like=True, tag="data"):
    """A frame with data for a plugin, under a key that the plugin chooses.

    The control process sends the content of a file. A worker sends data that control passes on to all workers.
    """

    plugin: str
    key: str
    payload: bytes


class Configured(msgspec.Struct, frozen=True, array_like=True, tag="configured"):
    """A worker's report that it has built the plugin chains of the Corefile number `generation`.

    If the worker could not build them, `error` is the reason.
    """

    generation: int
    error: str = ""
    takes_calls: bool = False
    """True if the worker accepts `Call`. Workers of earlier versions do not."""


class Call(msgspec.Struct, frozen=True, array_like=True, tag="call"):
    """Requests that the worker runs a function of an operator's tool (`svcdns.worker.calls`).

    `number` identifies the call, and `argument` is what the function takes.
    """

    number: int
    function: str
    argument: bytes


class Returned(msgspec.Struct, frozen=True, array_like=True, tag="returned"):
    """The result of the call `number`, or the reason why there is none in `error`."""

    number: int
    result: bytes
    error: str = ""


ToWorker = Epoch | Allow | Configure | Swap | Changed | Data | Call
FromControl = Epoch | Allow | Configure | Swap | EncodedChanged | Data | Call
ToControl = Configured | Data | Returned

T = TypeVar("T")
_encoder: Final = msgspec.msgpack.Encoder()


def frame(content: ToWorker | ToControl) -> bytes:
    """Encodes a frame. Raises FrameTooLargeError."""
    return framed(_encoder.encode(content))


def put_frame(source: int, encoded: bytes) -> bytes:
    """Encodes `Changed(source, Put(object))` for an object that is already encoded. Raises FrameTooLargeError."""
    return framed(_encoder.encode(EncodedChanged(source, EncodedPut(msgspec.Raw(encoded)))))


class FrameReader(Generic[T]):
    """Decodes a stream of frames: `feed` adds received octets, and `frames` returns the complete frames."""

    def __init__(self, kinds: Any) -> None:
        """`kinds` is the union of the frame types: `FromControl` or `ToControl`."""
        self._decode: Callable[[bytes], T] = msgspec.msgpack.Decoder(kinds).decode
        self._frames = Deframer()

    def feed(self, data: bytes) -> None:
        """Adds the next octets of the stream."""
        self._frames.feed(data)

    def frames(self) -> Iterator[T]:
        """Yields the complete frames. If the caller stops early, the next call yields the remaining frames.

        Raises FrameTooLargeError and one of UNDECODABLE (see `svcdns.errors`).
        """
        return map(self._decode, self._frames.contents())
