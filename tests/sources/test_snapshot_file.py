"""The format of snapshot files. Written files can be read, and other files are refused."""

from __future__ import annotations

import io
import os
from pathlib import Path
from random import Random

import msgspec
import pytest

from svcdns.cluster.changes import KINDS, Kind, Serials
from svcdns.cluster.objects import ClusterObject, Endpoint, EndpointSlice, Namespace, Service
from svcdns.cluster.watch_options import WatchOptions
from svcdns.sources import snapshot_file
from svcdns.sources.snapshot_file import CHUNK, Header, Origin, Snapshot, SnapshotError

TYPED = (Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.NAMESPACE)
WATCH = msgspec.msgpack.encode(WatchOptions(endpoint="https://10.96.0.1:443"))
ORIGIN = Origin("https://10.96.0.1:443", (b"ca-1", b"ca-2"))
HEADER = Header("1.2.3", 2000.5, 1990.25, ORIGIN, WATCH, TYPED, Serials(1, 2, 3))
OBJECTS: tuple[ClusterObject, ...] = (
    Namespace("d"),
    *(Service("d", f"web-{number}", (f"10.96.1.{number}",)) for number in range(200)),
    *(Service("e", f"web-{number}", (f"10.96.2.{number}",)) for number in range(200)),
    EndpointSlice("d", "db-1", "db", endpoints=(Endpoint("10.244.0.1", "db-0"), Endpoint("fd00::1"))),
)


def encoded(*objects: ClusterObject) -> dict[Kind, dict[tuple[str, str], bytes]]:
    """Returns the objects, encoded by kind, namespace and name, as a cluster view stores them."""
    out: dict[Kind, dict[tuple[str, str], bytes]] = {kind: {} for kind in TYPED}
    for item in objects:
        out[KINDS[type(item)]][item.namespace, item.name] = msgspec.msgpack.encode(item)
    return out


def octets(*objects: ClusterObject, **fields: object) -> bytes:
    """Returns a whole file. The keyword arguments are fields of the header."""
    header = msgspec.structs.replace(HEADER, **fields)
    file = io.BytesIO()
    for _ in snapshot_file.write(file, header, encoded(*objects or OBJECTS)):
        assert file.tell() < 1 << 20
    return file.getvalue()


def read(path: Path, content: bytes | None = None, origin: Origin = ORIGIN, watch: bytes = WATCH) -> Snapshot | None:
    """Reads a snapshot file. If `content` is given, first writes it to the file."""
    if content is not None:
        path.write_bytes(content)
    return snapshot_file.read(path, origin, watch, TYPED)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a file that does not exist yet."""
    return tmp_path / "one.snapshot"


def test_a_written_file_can_be_read(path: Path) -> None:
    """The objects are in order. The header, and the time of the last confirmation, are read too."""
    found = read(path, octets())
    assert found is not None
    assert found.header == HEADER
    assert found.confirmed == 1990.25
    assert found.objects == encoded(*OBJECTS)
    assert list(found.objects[Kind.SERVICE]) == list(encoded(*OBJECTS)[Kind.SERVICE])


def test_a_file_is_written_in_steps() -> None:
    file = io.BytesIO()
    steps = sum(1 for _ in snapshot_file.write(file, HEADER, encoded(*OBJECTS)))
    assert steps >= len(OBJECTS) // CHUNK + 2


def test_no_file_is_no_error(path: Path) -> None:
    """At the first start, there is no file."""
    assert read(path) is None


def test_a_confirmation_is_written_in_place(path: Path) -> None:
    """`stamp` changes only the time at the end of the file. A time older than the header's is ignored."""
    before = octets()
    path.write_bytes(before)
    snapshot_file.stamp(path, 3000.0)
    found = read(path)
    assert found is not None
    assert found.confirmed == 3000.0
    assert path.read_bytes()[:-16] == before[:-16]
    snapshot_file.stamp(path, 10.0)
    found = read(path)
    assert found is not None
    assert found.confirmed == 1990.25


@pytest.mark.parametrize("at", range(1, 17))
def test_a_damaged_stamp_is_ignored(path: Path, at: int) -> None:
    content = bytearray(octets())
    path.write_bytes(content)
    snapshot_file.stamp(path, 3000.0)
    content = bytearray(path.read_bytes())
    content[-at] ^= 0x55
    found = read(path, bytes(content))
    assert found is not None
    assert found.confirmed == 1990.25
    assert found.objects == encoded(*OBJECTS)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "it is not a snapshot", id="empty"),
        pytest.param(b"x" * 5000, "it is not a snapshot", id="anything"),
        pytest.param(octets()[:16], "another format", id="magic alone"),
        pytest.param(octets().replace(b"snapshot 1 ", b"snapshot 9 ", 1), "another format", id="another format"),
        pytest.param(octets()[:-1], "damaged", id="an octet short"),
        pytest.param(octets() + b"\0", "damaged", id="an octet more"),
        pytest.param(octets()[:40], "damaged", id="cut in the head"),
        pytest.param(octets(origin=Origin("https://10.96.0.1:443", (b"ca-3",))), "another cluster", id="CA"),
        pytest.param(
            octets(origin=Origin("https://a:6443", (b"ca-1",))), "of another cluster: https://a:6443", id="address"
        ),
        pytest.param(octets(watch=b"x"), "other watch options", id="watch options"),
        pytest.param(octets(kinds=TYPED[:2]), "other watch options", id="kinds"),
    ],
)
def test_other_files_are_refused(path: Path, content: bytes, reason: str) -> None:
    """The file is no valid snapshot of this cluster. The refusal has the reason."""
    with pytest.raises(SnapshotError, match=reason):
        read(path, content)


def test_one_common_ca_is_enough(path: Path) -> None:
    """CAs are replaced one by one, so one equal CA suffices. Without TLS, only the address is compared."""
    assert read(path, octets(), Origin(ORIGIN.address, (b"ca-2", b"ca-3"))) is not None
    assert Origin("http://a").is_that_of(Origin("http://a"))
    assert not Origin("http://a").is_that_of(Origin("http://a", (b"ca-1",)))


def test_a_path_without_a_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SnapshotError, match="it is not a regular file"):
        read(tmp_path / "fifo")
    with pytest.raises(SnapshotError, match=r"is a directory|it is not a regular file"):
        read(tmp_path)
    with pytest.raises(SnapshotError, match="not a directory"):
        read(tmp_path / "fifo" / "below")


def test_content_that_cannot_be_decoded_is_refused(path: Path) -> None:
    import hashlib

    head = octets()[: octets().index(b"\n") + 1]
    body = head + (3).to_bytes(4, "big") + b"\xc1\xc1\xc1" + bytes(4)
    with pytest.raises(SnapshotError, match="cannot be decoded"):
        read(path, body + hashlib.sha256(body).digest() + bytes(16))


def test_a_damaged_file_never_gives_a_wrong_cluster(path: Path) -> None:
    """Bits are flipped, or octets removed or inserted. The file is refused, or its original content is read."""
    content = octets()
    chosen = Random(5)
    part = len(content) // 40
    offsets = [chosen.randrange(start, min(start + part, len(content))) for start in range(0, len(content), part)]
    offsets += [*range(64), *range(len(content) - 64, len(content))]
    for at in offsets:
        flipped = bytearray(content)
        flipped[at] ^= 1 << chosen.randrange(8)
        cut = chosen.randrange(1, 100)
        for damaged in (
            bytes(flipped),
            content[:at],
            content[:at] + content[at + cut :],
            content[:at] + b"\0" * cut + content[at:],
        ):
            try:
                found = read(path, damaged)
            except SnapshotError:
                continue
            assert found is not None
            assert found.objects == encoded(*OBJECTS)
            assert found.header == HEADER
            assert found.confirmed == 1990.25
