"""A snapshot: a file with what is known of a cluster, for a start that finds no API server.

    magic with the format's number, shape of the objects
    frames: length (u32) and msgpack; the header first, then (kind, [(namespace, name, object), ...]); one of length 0 ends them
    SHA-256 of all before it
    stamp: when the API server last confirmed this state (f64), and a check of that

The stamp alone is written in place, so that a quiet cluster costs 16 octets a minute and not a file; one that is torn counts for nothing,
and the header's time holds. Rules: nothing is decoded before the checksum is right; a file that is damaged, of another format, of another
cluster, of other watch options or too old is refused as a whole, with a reason; objects stay encoded.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from svcdns.cluster.changes import STRUCTS, Kind, Serials
from svcdns.cluster.objects import Endpoint, Port
from svcdns.errors import SvcdnsError
from svcdns.process.framing import FrameTooLargeError, framed, read_framed

FORMAT: Final = 1
"""To be raised when what is kept changes its meaning; a change of the objects' fields shows by itself."""
CHUNK: Final = 256
"""Objects in a frame."""

_MAGIC: Final = b"svcdns snapshot "
_DIGEST: Final = 32
_STAMP: Final = struct.Struct(">d8s")
_BLOCK: Final = 1 << 16

Name = tuple[str, str]
"""Namespace and name."""
Objects = Mapping[Kind, Mapping[Name, bytes]]
"""Encoded objects by kind and name."""


class SnapshotError(SvcdnsError):
    """A snapshot cannot be used, or not be written; the text says why."""


class Origin(msgspec.Struct, frozen=True, array_like=True):
    """Which cluster an API server is of, as far as can be told without asking it: its address, and fingerprints of the CAs that vouch
    for it. While a CA is replaced, both are trusted: one in common is enough."""

    address: str
    authorities: tuple[bytes, ...] = ()

    def is_that_of(self, other: Origin) -> bool:
        """Whether both are of one cluster."""
        if not self.authorities and not other.authorities:
            return self.address == other.address
        return self.address == other.address and not set(self.authorities).isdisjoint(other.authorities)


class Header(msgspec.Struct, frozen=True, array_like=True):
    """What the file is of. Times are Unix seconds; `version` is that of the program which wrote it, `watch` the watch options, encoded."""

    version: str
    written: float
    confirmed: float
    origin: Origin
    watch: bytes
    kinds: tuple[Kind, ...]
    serials: Serials


class Snapshot(msgspec.Struct, frozen=True):
    """A file's content. `confirmed` is the last time, in Unix seconds, at which the API server confirmed it."""

    header: Header
    confirmed: float
    objects: dict[Kind, dict[Name, bytes]]


def write(file: BinaryIO, header: Header, objects: Objects) -> Iterator[None]:
    """Writes a snapshot, a piece at each step; objects must not change meanwhile. Raises OSError."""
    digest = hashlib.sha256()

    def put(data: bytes) -> None:
        digest.update(data)
        file.write(data)

    put(_head())
    put(framed(msgspec.msgpack.encode(header)))
    for kind in header.kinds:
        for part in _parts(objects[kind]):
            put(framed(msgspec.msgpack.encode((kind, part))))
            yield
    put(framed(b""))
    file.write(digest.digest() + _stamp(digest.digest(), header.confirmed))
    yield


def stamp(path: Path, confirmed: float) -> None:
    """Notes in a snapshot that its state was confirmed again at a time, in Unix seconds. Raises OSError."""
    with path.open("r+b", buffering=0) as file:
        file.seek(-_DIGEST - _STAMP.size, os.SEEK_END)
        digest = file.read(_DIGEST)
        file.seek(-_STAMP.size, os.SEEK_END)
        file.write(_stamp(digest, confirmed))


def read(path: Path, origin: Origin, watch: bytes, kinds: Iterable[Kind]) -> Snapshot | None:
    """The snapshot in a file, None where there is none. Raises SnapshotError where it is damaged or not of that cluster and that watch."""
    try:
        # A FIFO in that place must not stop the start.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SnapshotError("it is not a file")
            return _read(file, origin, watch, tuple(kinds))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SnapshotError((error.strerror or str(error)).lower()) from error
    except (msgspec.DecodeError, UnicodeDecodeError, FrameTooLargeError) as error:
        raise SnapshotError(f"it cannot be decoded: {error}") from error


def _read(file: BinaryIO, origin: Origin, watch: bytes, kinds: tuple[Kind, ...]) -> Snapshot:
    head = _head()
    found = file.read(len(head))
    if found[: len(_MAGIC)] != _MAGIC:
        raise SnapshotError("it is no snapshot")
    if found != head:
        raise SnapshotError("it is of another format, written by another version of the program")
    confirmed = _checked(file)
    file.seek(len(head))
    header = msgspec.msgpack.decode(read_framed(file), type=Header)
    if not header.origin.is_that_of(origin):
        raise SnapshotError(f"it is of another cluster: that at {header.origin.address or 'an unknown address'}")
    if header.watch != watch or header.kinds != kinds:
        raise SnapshotError("it is of other watch options")
    objects: dict[Kind, dict[Name, bytes]] = {kind: {} for kind in kinds}
    decode = msgspec.msgpack.Decoder(tuple[Kind, list[tuple[str, str, bytes]]]).decode
    while frame := read_framed(file):
        kind, part = decode(frame)
        objects.setdefault(kind, {}).update([((sys.intern(namespace), name), data) for namespace, name, data in part])
    return Snapshot(header, header.confirmed if confirmed is None else max(confirmed, header.confirmed), objects)


def _checked(file: BinaryIO) -> float | None:
    """The time of the stamp, None where it is torn. Raises SnapshotError where the checksum of the rest is wrong."""
    size = file.seek(0, os.SEEK_END)
    left = size - _DIGEST - _STAMP.size
    file.seek(0)
    digest = hashlib.sha256()
    while left > 0 and (block := file.read(min(_BLOCK, left))):
        digest.update(block)
        left -= len(block)
    if left or file.read(_DIGEST) != digest.digest():
        raise SnapshotError("it is damaged: its checksum is wrong")
    mark = file.read(_STAMP.size)
    at: float = _STAMP.unpack(mark)[0]
    return at if mark == _stamp(digest.digest(), at) else None


def _parts(objects: Mapping[Name, bytes]) -> Iterator[list[tuple[str, str, bytes]]]:
    part: list[tuple[str, str, bytes]] = []
    for (namespace, name), data in objects.items():
        part.append((namespace, name, data))
        if len(part) == CHUNK:
            yield part
            part = []
    if part:
        yield part


def _stamp(digest: bytes, confirmed: float) -> bytes:
    at = struct.pack(">d", confirmed)
    return at + hashlib.sha256(digest + at).digest()[:8]


def _head() -> bytes:
    structs = (*STRUCTS.values(), Endpoint, Port)
    shape = repr([(one.__name__, one.__struct_fields__, one.__annotations__) for one in structs])
    return _MAGIC + b"%d %s\n" % (FORMAT, hashlib.sha256(shape.encode()).hexdigest()[:16].encode())
