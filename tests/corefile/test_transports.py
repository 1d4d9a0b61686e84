"""The transports of keys, and which of them can share a port."""

from __future__ import annotations

import pytest

from svcdns.corefile.keys import DEFAULT_PORTS
from svcdns.corefile.transports import ENCRYPTED, MODULES, PROTOCOLS, share_port


def test_all_transports_have_sockets_and_ports() -> None:
    assert PROTOCOLS.keys() == DEFAULT_PORTS.keys()
    assert MODULES.keys() == ENCRYPTED < PROTOCOLS.keys()


@pytest.mark.parametrize(
    ("first", "second", "may"),
    [
        pytest.param("tls", "quic", True, id="tls and quic"),
        pytest.param("https", "https3", True, id="https and https3"),
        pytest.param("https", "grpc", False, id="two over TCP"),
        pytest.param("dns", "quic", False, id="dns uses both"),
        pytest.param("quic", "quic", True, id="the same"),
    ],
)
def test_sharing_a_port(first: str, second: str, may: bool) -> None:
    assert share_port(first, second) is share_port(second, first) is may
