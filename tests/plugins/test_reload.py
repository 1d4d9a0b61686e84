"""The options of *reload*."""

from __future__ import annotations

import pytest

from svcdns.plugins.reload import Options
from tests.support import world


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param("reload", Options(30.0, 15.0), id="default"),
        pytest.param("reload 10s", Options(10.0, 5.0), id="jitter is at most half"),
        pytest.param("reload 2s 1s", Options(2.0, 1.0), id="shortest"),
        pytest.param("reload 10s 0", Options(10.0, 0.0), id="no jitter"),
    ],
)
def test_reads(text: str, read: Options) -> None:
    assert world.options("reload", text) == read


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("reload 1s", "2:8 interval '1s' is too short; at least 2s was expected", id="interval"),
        pytest.param(
            "reload 10s 500ms", "2:12 jitter '500ms' is too short; 0 or at least 1s was expected", id="jitter"
        ),
        pytest.param("reload 10s 5s 1s", "2:15 Wrong argument count", id="three words"),
    ],
)
def test_rejects(text: str, error: str) -> None:
    assert world.rejection("reload", text).startswith(error)
