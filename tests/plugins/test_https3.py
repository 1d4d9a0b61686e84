"""The plugin https3: limits of DNS over HTTP/3."""

from __future__ import annotations

import pytest

from svcdns.plugins.https3 import Https3, Options, parse
from tests.support import world


@pytest.mark.parametrize(
    ("text", "options"),
    [
        pytest.param("https3", Options(), id="default"),
        pytest.param("https3 {\n}", Options(), id="empty block"),
        pytest.param("https3 {\n max_streams 16\n}", Options(16), id="streams"),
        pytest.param("https3 {\n max_connections 65536\n max_streams 1\n}", Options(1, 65536), id="both"),
        pytest.param("https3 {\n max_streams 0\n max_connections 0\n}", Options(0, 0), id="no limit"),
    ],
)
def test_options(text: str, options: Options) -> None:
    assert parse(world.block(text, "https3")) == options
    limits = Https3.settings(options).limits
    assert limits is not None
    assert (limits.transport, limits.worker_pool_size) == ("https3", None)
    assert (limits.max_streams, limits.max_connections) == (options.max_streams, options.max_connections)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("https3 1", "2:8 Wrong argument count", id="argument"),
        pytest.param("https3 {\n max_connections -1\n}", "3:18 -1 is out of range", id="negative connections"),
        pytest.param("https3 {\n max_streams -1\n}", "3:14 -1 is out of range", id="negative"),
        pytest.param("https3 {\n max_streams many\n}", "3:14 'many' is not", id="word"),
        pytest.param("https3 {\n max_streams\n}", "3:2 Wrong argument count", id="nothing"),
        pytest.param("https3 {\n max_streams 1\n max_streams 2\n}", "4:2 max_streams already defined", id="twice"),
        pytest.param(
            "https3 {\n max_connections 1\n}\nhttps3 {\n max_connections 1\n}",
            "6:2 max_connections",
            id="twice, in two",
        ),
        pytest.param("https3 {\n max_stream 1\n}", "3:2 unknown property 'max_stream'", id="unknown"),
    ],
)
def test_rejects(text: str, error: str) -> None:
    assert world.rejection("https3", text).startswith(error)
