"""The options of `grpc` (docs/plugins/grpc.md)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from svcdns.corefile.blocks import Position
from svcdns.plugins.grpc.options import File, Options, Upstream
from tests.support import world

ONE = Upstream("10.0.0.1", 53)
DEFAULT = Options(Position("Corefile", 2, 1), ".", (ONE,))
MANY = (
    Upstream("2003::1", 99),
    Upstream("2003::2", 53),
    Upstream("2003::3", 53),
    Upstream("10.0.0.2", 443),
    Upstream("10.0.0.3", 1),
    Upstream("localhost", 0, "/s"),
    File("/etc/resolv.conf"),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("grpc . 10.0.0.1", DEFAULT, id="defaults"),
        pytest.param("grpc Example.ORG 10.0.0.1:53", replace(DEFAULT, zone="example.org."), id="zone and port"),
        pytest.param(
            "grpc . [2003::1]:99 2003::2 [2003::3] grpc://10.0.0.2 grpc://10.0.0.3:1 unix:///s /etc/resolv.conf",
            replace(DEFAULT, upstreams=MANY),
            id="upstreams",
        ),
    ],
)
def test_reads_upstreams(text: str, expected: Options) -> None:
    assert world.options("grpc", text) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param("except a b\n except c", {"excepted": ("a.", "b.", "c.")}, id="except"),
        pytest.param("tls", {"tls": ("", "", "")}, id="tls"),
        pytest.param("tls /c /k /a", {"tls": ("/c", "/k", "/a")}, id="tls with files"),
        pytest.param("tls_servername a.test", {"tls": ("", "", ""), "server_name": "a.test"}, id="a name turns TLS on"),
        pytest.param("policy round_robin", {"policy": "round_robin"}, id="policy"),
        pytest.param("fallthrough", {"fallthrough": (".",)}, id="fallthrough"),
        pytest.param("fallthrough a", {"fallthrough": ("a.",)}, id="fallthrough zones"),
    ],
)
def test_reads_options(lines: str, expected: dict[str, object]) -> None:
    found = world.options("grpc", f"grpc . 10.0.0.1 {{\n {lines}\n}}")
    assert found == replace(DEFAULT, **expected)  # type: ignore[arg-type]


def test_labels() -> None:
    """The texts of upstreams, as in metrics."""
    labels = [Upstream("10.0.0.1", 53), Upstream("2003::1", 99), Upstream("localhost", 0, "/s")]
    assert [one.label for one in labels] == ["10.0.0.1:53", "[2003::1]:99", "unix:///s"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("grpc", "2:1 Wrong argument count", id="no words"),
        pytest.param("grpc .", "2:6 Wrong argument count", id="no upstream"),
        pytest.param("grpc a..b 10.0.0.1", "2:6 unable to normalize 'a..b'", id="zone"),
        pytest.param("grpc . " + "10.0.0.1 " * 16, "2:143 more than 15 TOs configured: 16", id="many"),
        pytest.param("grpc . tls://10.0.0.1", "2:8 'tls://10.0.0.1' is no upstream over gRPC", id="scheme"),
        pytest.param("grpc . 10.0.0.1:99999", "2:8 '99999' is not a port", id="port"),
        pytest.param("grpc . grpc://a.test", '2:8 invalid address: "grpc://a.test"', id="host"),
        pytest.param(
            "grpc . 10.0.0.1\ngrpc . 10.0.0.2", "3:1 plugin/grpc: this plugin can only be used once", id="twice"
        ),
    ],
)
def test_rejected_upstreams(text: str, error: str) -> None:
    assert world.rejection("grpc", text).startswith(error)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        pytest.param("except", "3:2 Wrong argument count", id="except"),
        pytest.param("tls a b c d", "3:12 Wrong argument count", id="tls"),
        pytest.param("tls_servername", "3:2 Wrong argument count", id="tls_servername"),
        pytest.param("policy", "3:2 Wrong argument count", id="no policy"),
        pytest.param("policy best", "3:9 unknown policy 'best'", id="policy"),
        pytest.param("policies x", "3:2 unknown property 'policies' (did you mean 'policy'?)", id="unknown"),
    ],
)
def test_rejected_options(line: str, error: str) -> None:
    assert world.rejection("grpc", f"grpc . 10.0.0.1 {{\n {line}\n}}").startswith(error)
