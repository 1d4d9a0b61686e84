"""What the tests of processes share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture
def _only_own_descriptors() -> Iterator[None]:
    """Prevents objects that other tests left from closing their descriptors during a test that counts descriptors."""
    gc.unfreeze()
    gc.collect()
    gc.disable()
    yield
    gc.enable()
