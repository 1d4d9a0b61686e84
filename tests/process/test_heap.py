"""Returning free memory to the operating system."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from svcdns.process.heap import release_free_memory


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_free_memory_is_returned() -> None:
    """Free memory is returned to the operating system even if blocks in between are in use."""
    blocks = [bytes(40_000) for _ in range(1000)]
    kept = blocks[::50]
    before = _resident()
    del blocks
    release_free_memory()
    assert before - _resident() > 20 << 20
    assert len(kept) == 20
