"""The options of `multisocket`."""

from __future__ import annotations

import os

import pytest

from svcdns.plugins.multisocket import Options
from svcdns.process.shared_memory import SLOTS
from tests.support import world


@pytest.mark.parametrize(
    ("text", "workers"),
    [
        pytest.param("multisocket", min(os.cpu_count() or 1, SLOTS), id="a worker for each processor"),
        pytest.param("multisocket 3", 3, id="number"),
        pytest.param("multisocket 1024", SLOTS, id="no more than there are slots"),
        pytest.param("multisocket 2\nmultisocket 4", 4, id="the last one counts"),
    ],
)
def test_reads(text: str, workers: int) -> None:
    """The number of workers."""
    assert world.options("multisocket", text) == Options(workers)


@pytest.mark.parametrize("word", ["0", "1025", "-1", "many"])
def test_rejects(word: str) -> None:
    """Numbers out of range, and words."""
    assert world.rejection("multisocket", f"multisocket {word}").startswith("2:13 ")
