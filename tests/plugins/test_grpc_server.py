"""The plugin grpc_server: limits of DNS over gRPC."""

from __future__ import annotations

import pytest

from svcdns.plugins.grpc_server import GrpcServer, Options
from tests.support import world


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("grpc_server", Options(), id="defaults"),
        pytest.param("grpc_server {\n max_streams 5\n}", Options(max_streams=5), id="streams"),
        pytest.param("grpc_server {\n max_connections 0\n max_streams 0\n}", Options(0, 0), id="no limits"),
        pytest.param("grpc_server {\n max_streams 1\n}\ngrpc_server {\n max_connections 2\n}", Options(1, 2), id="two"),
    ],
)
def test_reads_options(text: str, expected: Options) -> None:
    options = world.options("grpc_server", text)
    assert options == expected
    limits = GrpcServer.settings(options).limits
    assert limits is not None
    assert (limits.transport, limits.max_streams, limits.max_connections) == (
        "grpc", expected.max_streams, expected.max_connections,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("grpc_server 5", "2:13 Wrong argument count", id="argument"),
        pytest.param("grpc_server {\n max_streams\n}", "3:2 Wrong argument count", id="no number"),
        pytest.param("grpc_server {\n max_streams x\n}", "3:14 'x' is not a whole number", id="no number"),
        pytest.param("grpc_server {\n max_connections -1\n}", "3:18 -1 is out of range", id="negative"),
        pytest.param("grpc_server {\n max_streams 1\n max_streams 2\n}", "4:2 max_streams already defined", id="twice"),
        pytest.param("grpc_server {\n streams 1\n}", "3:2 unknown property 'streams'", id="unknown"),
    ],
)
def test_rejected_options(text: str, error: str) -> None:
    assert world.rejection("grpc_server", text).startswith(error)
