"""The format of a snapshot: a file with the objects of a cluster view, for a start without an API server.

    magic with the number of the format, and a digest of the objects' shapes
    frames: length (u32) and msgpack; first the header, then (kind, [(namespace, name, object), ...])
    a frame of length 0, which is the last
    SHA-256 of all before it
    stamp: when the API server last confirmed this state (f64), and a checksum of that

When a file is written is not decided here. Rules:

1. Nothing is decoded before the checksum is found right, and objects stay encoded.
2. A file that is damaged, of another format, of another cluster or of other watch options is refused as a whole, with a
   reason.
3. Only the stamp is written in place, so that a quiet cluster costs 16 octets a minute and not a file. A stamp with a
   wrong checksum is ignored; then the time in the header counts.
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
from svcdns.cluster.objects import Endpoint, ObjectName, Port
from svcdns.errors import SvcdnsError
from svcdns.process.framing import FrameTooLargeError, framed, read_framed

FORMAT: Final = 1
"""Raised when the content changes its meaning; a change of the objects' fields changes the digest of their shapes."""
CHUNK: Final = 256
"""Objects in a frame at most."""

_MAGIC: Final = b"svcdns snapshot "
_DIGEST: Final = 32
_STAMP: Final = struct.Struct(">d8s")
_BLOCK: Final = 1 << 16

Objects = Mapping[Kind, Mapping[ObjectName, bytes]]
"""Encoded objects by kind and name."""


class SnapshotError(SvcdnsError):
    """A snapshot cannot be used. `str(error)` is the reason."""


class Origin(msgspec.Struct, frozen=True, array_like=True):
    """Identifies a cluster without a request to its API server: by the server's address and the SHA-256 of its CAs.
    While a CA is replaced both CAs are trusted, so one in common is enough."""

    address: str
    authorities: tuple[bytes, ...] = ()

    def is_that_of(self, other: Origin) -> bool:
        """Whether both identify the same cluster."""
        if not self.authorities and not other.authorities:
            return self.address == other.address
        return self.address == other.address and not set(self.authorities).isdisjoint(other.authorities)


class Header(msgspec.Struct, frozen=True, array_like=True):
    """The origin of the file. Times are Unix seconds; `version` is that of the writing program, `watch` the encoded
    watch options."""

    version: str
    written: float
    confirmed: float
    origin: Origin
    watch: bytes
    kinds: tuple[Kind, ...]
    serials: Serials


class Snapshot(msgspec.Struct, frozen=True):
    """The content of a file. `confirmed` is the moment at which the API server last confirmed it, in Unix seconds."""

    header: Header
    confirmed: float
    objects: dict[Kind, dict[ObjectName, bytes]]


def write(file: BinaryIO, header: Header, objects: Objects) -> Iterator[None]:
    """Writes a snapshot, one frame at each step; objects must not change meanwhile. Raises OSError."""
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
    """Writes the moment of a later confirmation into a snapshot, in Unix seconds. Raises OSError."""
    with path.open("r+b", buffering=0) as file:
        file.seek(-_DIGEST - _STAMP.size, os.SEEK_END)
        digest = file.read(_DIGEST)
        file.seek(-_STAMP.size, os.SEEK_END)
        file.write(_stamp(digest, confirmed))


def read(path: Path, origin: Origin, watch: bytes, kinds: Iterable[Kind]) -> Snapshot | None:
    """The snapshot in a file, None where there is no file. Raises SnapshotError where it is damaged or of another
    cluster or watch."""
    try:
        # O_NONBLOCK: a FIFO at the path must not block the start.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SnapshotError("it is not a regular file")
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
        raise SnapshotError("it is not a snapshot")
    if found != head:
        raise SnapshotError("it is of another format, written by another version of the program")
    confirmed = _checked(file)
    file.seek(len(head))
    header = msgspec.msgpack.decode(read_framed(file), type=Header)
    if not header.origin.is_that_of(origin):
        raise SnapshotError(f"it is of another cluster: {header.origin.address or 'an unknown address'}")
    if header.watch != watch or header.kinds != kinds:
        raise SnapshotError("it is of other watch options")
    objects: dict[Kind, dict[ObjectName, bytes]] = {kind: {} for kind in kinds}
    decode = msgspec.msgpack.Decoder(tuple[Kind, list[tuple[str, str, bytes]]]).decode
    while frame := read_framed(file):
        kind, part = decode(frame)
        objects.setdefault(kind, {}).update([((sys.intern(namespace), name), data) for namespace, name, data in part])
    return Snapshot(header, header.confirmed if confirmed is None else max(confirmed, header.confirmed), objects)


def _checked(file: BinaryIO) -> float | None:
    """The time of the stamp, None where its checksum is wrong. Raises SnapshotError where the checksum of the rest is
    wrong."""
    size = file.seek(0, os.SEEK_END)
    left = size - _DIGEST - _STAMP.size
    file.seek(0)
    digest = hashlib.sha256()
    while left > 0 and (block := file.read(min(_BLOCK, left))):
        digest.update(block)
        left -= len(block)
    if left or file.read(_DIGEST) != digest.digest():
        raise SnapshotError("it is damaged: its checksum is wrong")
    found = file.read(_STAMP.size)
    at: float = _STAMP.unpack(found)[0]
    return at if found == _stamp(digest.digest(), at) else None


def _parts(objects: Mapping[ObjectName, bytes]) -> Iterator[list[tuple[str, str, bytes]]]:
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
