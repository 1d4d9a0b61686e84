"""Fuzzing targets for data that svcdns's own processes exchange: frames, snapshots, and hand-overs at an upgrade."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from svcdns.cluster.changes import Begin, Complete, Gone, Kind, Put, Serials
from svcdns.cluster.index import Index
from svcdns.cluster.objects import Endpoint, EndpointSlice, Port, Service
from svcdns.corefile.parser import parse
from svcdns.errors import UNDECODABLE
from svcdns.feed.frames import (
    Allow,
    Changed,
    Configure,
    Configured,
    Data,
    EncodedChanged,
    Epoch,
    FrameReader,
    FromControl,
    SourceKinds,
    Swap,
    ToControl,
    frame,
)
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.cache.entry import Entry, WireEntry
from svcdns.plugins.cache.memory import MemoryBudget
from svcdns.plugins.cache.store import Store
from svcdns.process.channel import Channel, ChannelBrokenError, ChannelClosedError, encoded
from svcdns.process.framing import framed
from svcdns.process.shared_memory import memory_file
from svcdns.serving.transport.connections import Detached
from svcdns.sources import snapshot_file
from svcdns.sources.snapshot_file import Header, Origin, SnapshotError
from svcdns.supervisor import reexec
from svcdns.worker import cache_handover, connection_handover
from tests.fuzz.mutation import JSON, MSGPACK, after, either, of_frames, of_parts, of_trees
from tests.fuzz.target import Target
from tests.support.world import records

_SLICE: Final = EndpointSlice("d", "x", "s", (Port("http", "TCP", 80),), (Endpoint("10.0.0.1", "h"),))


def run_frames(data: bytes) -> None:
    """Reads one frame between control and a worker. The first octet of the input chooses the direction."""
    kinds: Any = ToControl if data[:1] == b"\1" else FromControl
    reader = FrameReader[Any](kinds)
    reader.feed(framed(data[1:]))
    try:
        (content,) = reader.frames()
    except UNDECODABLE:
        return
    sent = frame(content)
    again = FrameReader[Any](kinds)
    again.feed(sent)
    assert frame(*again.frames()) == sent
    if isinstance(content, EncodedChanged):
        index = Index(frozenset(Kind))
        with contextlib.suppress(*UNDECODABLE):
            index.apply(content.change)
            assert sum(map(index.count, Kind)) <= 1


_ORIGIN: Final = Origin("https://10.96.0.1:443", (b"ca-1",))
_TYPED: Final = (Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NAMESPACE)
_HEADER: Final = Header("1.2.3", 2000.5, 1990.25, _ORIGIN, b"watch", _TYPED, Serials(1, 2, 3))
_STAMP: Final = 16


def run_snapshot(data: bytes) -> None:
    """Reads a snapshot file. The first octet of the input chooses which parts of the file are made valid: none, the
    checksum, or the header too.
    """
    if not data:
        return
    content = data[1:]
    if data[0] % 3:
        begin = snapshot_file._head() + (framed(msgspec.msgpack.encode(_HEADER)) if data[0] % 3 == 2 else b"")
        digest = hashlib.sha256(begin + content).digest()
        content = begin + content + digest + snapshot_file._stamp(digest, 3000.0)
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            found = snapshot_file.read(Path(file.name), _ORIGIN, b"watch", _TYPED)
        except SnapshotError as error:
            assert str(error)
            return
        assert found is not None
        out = io.BytesIO()
        for _ in snapshot_file.write(out, found.header, found.objects):
            pass
        file.seek(0)
        file.truncate()
        file.write(out.getvalue())
        file.flush()
        again = snapshot_file.read(Path(file.name), _ORIGIN, b"watch", _TYPED)
    assert again is not None
    assert again.objects == {kind: found.objects[kind] for kind in _TYPED}


def run_cache_handover(data: bytes) -> None:
    """Reads the cache file of an earlier worker. The first octet of the input chooses between the whole file and one
    part of a cache.
    """
    store = Store(1, MemoryBudget(lambda: 1 << 20), lambda: None)
    key = ("cache", "success")
    content = data[1:] if data[:1] == b"\0" else framed(msgspec.msgpack.encode((repr(key), data[1:])))
    file = memory_file("svcdns-fuzz")
    os.write(file, content)
    os.lseek(file, 0, os.SEEK_SET)
    imported = _run(cache_handover.unpack(file, {key: store}, 5.0, lambda: False))
    assert len(store) <= imported <= len(content)
    assert store.octets <= 1 << 20
    for found in store.entries:
        entry = store.get(found)
        assert entry is not None
        assert entry.octets > 0


def run_connection_handover(data: bytes) -> None:
    """Reads the messages that an earlier worker sends to hand over connections. The first octet is the number of
    descriptors.
    """
    left, right = socket.socketpair()
    adopted: list[Detached] = []
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(data[0] % 4)] if data else []
    ancillary = encoded({}, files)[1]
    left.sendmsg([data[1:]], ancillary if data[1:] else [])
    left.close()
    before = _open_descriptors() - len(files)

    async def adopt(detached: Detached) -> None:
        adopted.append(detached)
        os.close(detached.fd)

    async def import_state(file: int) -> None:
        os.close(file)

    _run(connection_handover.take(right, adopt, import_state))
    for file in files:
        os.close(file)
    assert len(adopted) <= len(data)
    assert all(isinstance(one.buffer, bytes) for one in adopted)
    assert _open_descriptors() < before, "a descriptor stays open"


def _open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def run_channel(data: bytes) -> None:
    """Reads the messages of a channel between the supervisor and a child. Malformed octets must close the channel."""
    left, right = socket.socketpair()
    left.sendall(data)
    left.close()
    channel, found = Channel(right), 0
    try:
        while True:
            for message in channel.receive():
                assert isinstance(message, dict)
                assert message["fds"] == []
                found += 1
    except ChannelBrokenError as error:
        assert len(str(error)) < 500
    except ChannelClosedError:
        assert found == data.count(b"\n")
    finally:
        channel.close()


def run_reexec(data: bytes) -> None:
    """Reads the state that the supervisor leaves for the next program. The input must be valid JSON, or raise
    ValueError.
    """
    file = memory_file("svcdns-fuzz")
    os.write(file, data)
    try:
        state = reexec.read_state(file)
    except (ValueError, RecursionError):
        return
    file = memory_file("svcdns-fuzz")
    os.write(file, json.dumps(state).encode())
    assert json.dumps(reexec.read_state(file)) == json.dumps(state)


def _run(coroutine: Any) -> Any:
    return _loop.run_until_complete(coroutine)


_loop: Final = asyncio.new_event_loop()


def _frames() -> Iterator[bytes]:
    corefile = parse("a {\n log\n}\n", "F", environ={})
    contents: tuple[Any, ...] = (
        Epoch(7),
        Configure(1, corefile, (("",),), (SourceKinds(1, b"w", (Kind.SERVICE,)),), ("10.0.0.1",)),
        Swap(1),
        Changed(1, Put(_SLICE)),
        Changed(1, Put(Service("d", "w", ("10.96.0.1",)))),
        Changed(1, Gone(Kind.SERVICE, "d", "x")),
        Changed(1, Begin(Kind.POD)),
        Changed(1, Complete(Kind.POD)),
        Changed(1, Serials(1, 2, 3)),
        Allow(0.5),
        Data("file", "k", b"\0\1"),
    )
    for content in contents:
        yield b"\0" + frame(content)[4:]
    yield b"\1" + frame(Configured(1, "no"))[4:]


def _snapshots() -> Iterator[bytes]:
    out = io.BytesIO()
    objects = {kind: dict[tuple[str, str], bytes]() for kind in _TYPED}
    objects[Kind.SERVICE]["d", "w"] = msgspec.msgpack.encode(Service("d", "w"))
    for _ in snapshot_file.write(out, _HEADER, objects):
        pass
    content = out.getvalue()
    head, header = snapshot_file._head(), framed(msgspec.msgpack.encode(_HEADER))
    yield b"\0" + content
    yield b"\1" + content[len(head) : -32 - _STAMP]
    yield b"\2" + content[len(head + header) : -32 - _STAMP]


def _caches() -> Iterator[bytes]:
    reply = Reply(answer=records("a.b. 5 IN A 192.0.2.1"))
    entry = WireEntry.encode((b"\1a\0", 1, 1, False, False), Entry(reply, 0.0, 5), 1.0)
    yield b"\1" + entry
    yield b"\0" + framed(msgspec.msgpack.encode((repr(("cache", "success")), entry)))


def _connections() -> Iterator[bytes]:
    about = {"op": "connection", "host": "", "port": 53, "family": 4, "patience": 1.5, "left": -1, "buffer": "0001"}
    yield b"\1" + encoded(about, [0])[0]
    yield b"\2" + encoded({"op": "kept"}, [0])[0] + encoded(about, [0])[0]
    yield b"\0{}\n"
    yield b"\0" + encoded(about, [])[0]


def _messages() -> Iterator[bytes]:
    yield encoded({"op": "x", "a": [1, None]}, [])[0]
    yield b'{"fds":1}\n'
    yield b"[]\n1\n"


def _reexecs() -> Iterator[bytes]:
    child = {"number": 1, "pid": 2, "started": 0.5, "start_at": 0, "deaths": 0, "was_silent": False, "channel": 5}
    yield json.dumps({"arguments": [], "pin": None, "format": "1.a", "children": [child], "endings": {}}).encode()


_MSGPACK: Final = of_trees(*MSGPACK)
_JSON: Final = of_trees(*JSON, ["op", "connection", "kept", "fds", "host", "port", "family", "buffer", "left", 4, 6])

TARGETS: Final = (
    Target("frames", run_frames, _frames, 300, mutate=after(1, _MSGPACK)),
    Target("snapshot", run_snapshot, _snapshots, 400, mutate=after(1, of_frames(_MSGPACK))),
    Target("cache_handover", run_cache_handover, _caches, 300, mutate=after(1, either(_MSGPACK, of_frames(_MSGPACK)))),
    Target("connection_handover", run_connection_handover, _connections, 600, mutate=after(1, of_parts(_JSON))),
    Target("channel", run_channel, _messages, 300, mutate=of_parts(_JSON)),
    Target("reexec", run_reexec, _reexecs, 400, mutate=_JSON),
)
