"""The options of *pprof*."""

from __future__ import annotations

import pytest

from svcdns.plugins.pprof import Options
from tests.support import world


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param("pprof", Options(("localhost", 6053)), id="default"),
        pytest.param("pprof 10.9.8.7:6060", Options(("10.9.8.7", 6060)), id="address"),
        pytest.param("pprof :6060 {\n block\n}", Options(("", 6060)), id="block without a rate"),
        pytest.param("pprof :6060 {\n block 20\n}", Options(("", 6060)), id="block with a rate"),
    ],
)
def test_reads(text: str, read: Options) -> None:
    assert world.options("pprof", text) == read


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("pprof 127.0.0.1", "HOST:PORT or :PORT was expected"),
        ("pprof :1 :2", "pprof"),
        ("pprof {\n block often\n}", "'often'"),
        ("pprof {\n block 1 2\n}", "block"),
        ("pprof {\n blok\n}", "block"),
        ("pprof\npprof", "pprof"),
    ],
)
def test_rejects(text: str, error: str) -> None:
    assert error in world.rejection("pprof", text)
