"""What a worker checks before it uses the accelerator. The connection itself is tested with the whole worker."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from svcdns.accelerator.client import check_clock, check_peer, is_bpf_map
from svcdns.accelerator.protocol import AcceleratorError


@pytest.mark.parametrize(
    "text", [None, "monotonic           0         0\nboottime         12         0\n"], ids=["none", "no offset"]
)
def test_the_kernels_clock(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "offsets"
    if text is not None:
        path.write_text(text)
    check_clock(path)


@pytest.mark.parametrize("offset", ["5 0", "-5 0", "0 1"])
def test_another_clock_is_refused(tmp_path: Path, offset: str) -> None:
    path = tmp_path / "offsets"
    path.write_text(f"monotonic {offset}\nboottime 0 0\n")
    with pytest.raises(AcceleratorError, match="time namespace"):
        check_clock(path)


def peer(uid: int) -> socket.socket:
    """Returns a connected socket whose other end belongs to a user."""
    return cast("socket.socket", SimpleNamespace(getsockopt=lambda *_: struct.pack("=iII", 1, uid, 0)))


def test_only_root_and_the_own_user_are_trusted() -> None:
    mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with mine, other:
        check_peer(mine)
    check_peer(peer(0))
    with pytest.raises(AcceleratorError, match="uid 4711"):
        check_peer(peer(4711))


def test_a_file_is_no_map() -> None:
    descriptor = os.memfd_create("bpf-map")
    assert not is_bpf_map(descriptor)
    os.close(descriptor)
