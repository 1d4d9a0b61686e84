"""The plugin quic: limits of DNS over QUIC."""

from __future__ import annotations

import pytest

from svcdns.plugins.quic import Options, Quic, parse
from tests.support import world


@pytest.mark.parametrize(
    ("text", "options"),
    [
        pytest.param("quic", Options(), id="default"),
        pytest.param("quic {\n}", Options(), id="empty block"),
        pytest.param("quic {\n max_streams 16\n}", Options(16), id="streams"),
        pytest.param("quic {\n worker_pool_size 65536\n max_streams 1\n}", Options(1, 65536), id="both"),
    ],
)
def test_options(text: str, options: Options) -> None:
    assert parse(world.block(text, "quic")) == options
    limits = Quic.settings(options).limits
    assert limits is not None
    assert (limits.transport, limits.max_connections) == ("quic", None)
    assert (limits.max_streams, limits.worker_pool_size) == (options.max_streams, options.worker_pool_size)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("quic 1", "2:6 Wrong argument count", id="argument"),
        pytest.param("quic {\n max_streams 0\n}", "3:14 0 is out of range", id="no streams"),
        pytest.param("quic {\n max_streams -1\n}", "3:14 -1 is out of range", id="negative"),
        pytest.param("quic {\n max_streams many\n}", "3:14 'many' is not", id="word"),
        pytest.param("quic {\n max_streams\n}", "3:2 Wrong argument count", id="nothing"),
        pytest.param("quic {\n max_streams 1\n max_streams 2\n}", "4:2 max_streams already defined", id="twice"),
        pytest.param(
            "quic {\n worker_pool_size 1\n}\nquic {\n worker_pool_size 1\n}", "6:2 worker_pool", id="twice, in two"
        ),
        pytest.param("quic {\n max_stream 1\n}", "3:2 unknown property 'max_stream'", id="unknown"),
    ],
)
def test_rejects(text: str, error: str) -> None:
    assert world.rejection("quic", text).startswith(error)
