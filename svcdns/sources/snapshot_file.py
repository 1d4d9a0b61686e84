"""The format of a snapshot: a file with the objects of a cluster view, for a start without an API server.

    magic with the number of the format, and a digest of the objects' shapes
    frames: length (u32) and msgpack; first the header, then (kind, [(namespace, name, object), ...])
    a frame of length 0, which is the last
    SHA-256 of everything before it
    stamp: when the API server last confirmed this state (f64), and a checksum of the stamp

Rules:

1. Nothing is decoded before the SHA-256 has been checked.
2. A file that is damaged, of another format, of another cluster or of other watch options is refused.
3. Only the stamp is overwritten in place. If its checksum is wrong, the time in the header is used.
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
from svcdns.errors import UNDECODABLE, SvcdnsError
from svcdns.process.framing import FrameTooLargeError, framed, read_framed

FORMAT: Final = 1
"""The number of the format, incremented when the meaning of the content changes.

A change of the objects' fields needs no new number: it changes the digest of their shapes.
"""
CHUNK: Final = 256
"""The most objects in one frame."""

_MAGIC: Final = b"svcdns snapshot "
_DIGEST: Final = 32
_STAMP: Final = struct.Struct(">d8s")
_BLOCK: Final = 1 << 16

Objects = Mapping[Kind, Mapping[ObjectName, bytes]]
"""Encoded objects, by kind and by name."""


class SnapshotError(SvcdnsError):
    """Raised if a snapshot cannot be used. The text of the error is the reason."""


class Origin(msgspec.Struct, frozen=True, array_like=True):
    """Identifies a cluster by its API server's address and the SHA-256 of its CAs."""

    address: str
    authorities: tuple[bytes, ...] = ()

    def is_that_of(self, other: Origin) -> bool:
        """Returns True if this origin and `other` have the same address and at least one CA in common."""
        if not self.authorities and not other.authorities:
            return self.address == other.address
        return self.address == other.address and not set(self.authorities).isdisjoint(other.authorities)


class Header(msgspec.Struct, frozen=True, array_like=True):
    """The header of a snapshot.

    `version` is the version of the program that wrote the file. `watch` has the encoded watch options. `written` is the
    time at which the file was written, and `confirmed` the time at which the API server last confirmed the objects, in
    Unix seconds.
    """

    version: str
    written: float
    confirmed: float
    origin: Origin
    watch: bytes
    kinds: tuple[Kind, ...]
    serials: Serials


class Snapshot(msgspec.Struct, frozen=True):
    """The content of a snapshot.

    `confirmed` is the time at which the API server last confirmed the objects, in Unix seconds.
    """

    header: Header
    confirmed: float
    objects: dict[Kind, dict[ObjectName, bytes]]


def write(file: BinaryIO, header: Header, objects: Objects) -> Iterator[None]:
    """Writes a snapshot. Each step of the iterator writes one frame. Raises OSError.

    `objects` must not change during the iteration.
    """
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
    """Writes the time `confirmed` into the stamp of a snapshot file. Raises OSError.

    At this time, in Unix seconds, the API server has confirmed the objects in the file again.
    """
    with path.open("r+b", buffering=0) as file:
        file.seek(-_DIGEST - _STAMP.size, os.SEEK_END)
        digest = file.read(_DIGEST)
        file.seek(-_STAMP.size, os.SEEK_END)
        file.write(_stamp(digest, confirmed))


def read(path: Path, origin: Origin, watch: bytes, kinds: Iterable[Kind]) -> Snapshot | None:
    """Reads a snapshot. Returns None if there is no file.

    Raises SnapshotError if the file is damaged, or is a snapshot of another cluster, other watch options or other
    kinds.
    """
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
    except (*UNDECODABLE, FrameTooLargeError) as error:
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
    """Checks the SHA-256 of a snapshot file, and returns the time in its stamp.

    Returns None if the checksum of the stamp is wrong. Raises SnapshotError if the SHA-256 is wrong.
    """
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
