"""How many descriptors a worker may have open."""

from __future__ import annotations

import resource

import pytest

from svcdns.serving.descriptors import DESCRIPTORS, allow_descriptors


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [
        pytest.param(1024, 524_288, [(DESCRIPTORS, 524_288)], id="raised"),
        pytest.param(1024, 4096, [(4096, 4096)], id="as far as it goes"),
        pytest.param(1024, resource.RLIM_INFINITY, [(DESCRIPTORS, resource.RLIM_INFINITY)], id="no hard limit"),
        pytest.param(1 << 20, 1 << 20, [], id="enough"),
        pytest.param(resource.RLIM_INFINITY, resource.RLIM_INFINITY, [], id="no limit"),
    ],
)
def test_descriptors(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, raised: list[tuple[int, int]]) -> None:
    """The soft limit alone is changed, and only upwards."""
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: made.append(limits))
    allow_descriptors()
    assert made == raised
