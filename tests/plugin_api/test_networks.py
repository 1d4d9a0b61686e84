"""Networks in CIDR notation, and the addresses in them."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.plugin_api.networks import Network, Networks, NetworkTextError, packed


@pytest.mark.parametrize(
    ("network", "address", "inside"),
    [
        pytest.param("10.0.0.0/8", "10.255.0.1", True, id="in it"),
        pytest.param("10.0.0.0/8", "11.0.0.1", False, id="beside it"),
        pytest.param("10.1.2.3/8", "10.9.9.9", True, id="host bits are masked"),
        pytest.param("192.0.2.7", "192.0.2.7", True, id="an address alone"),
        pytest.param("192.0.2.7", "192.0.2.8", False, id="another address"),
        pytest.param("0.0.0.0/0", "192.0.2.7", True, id="all of IPv4"),
        pytest.param("0.0.0.0/0", "2001:db8::1", False, id="IPv6 is not in IPv4"),
        pytest.param("::/0", "192.0.2.7", False, id="IPv4 is not in IPv6"),
        pytest.param("2001:db8::/32", "2001:db8:1::1", True, id="IPv6"),
        pytest.param("10.0.0.0/8", "::ffff:10.0.0.1", True, id="mapped"),
        pytest.param("fe80::/10", "fe80::1%eth0", True, id="zone id"),
    ],
)
def test_holds(network: str, address: str, inside: bool) -> None:
    found = packed(address)
    assert found is not None
    assert (found in Network.from_text(network)) is inside
    assert (found in Networks([Network.from_text("203.0.113.0/24"), Network.from_text(network)])) is inside


@pytest.mark.parametrize("text", ["", "x", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/255.0.0.0", "10.0.0.0/", "::1/129"])
def test_the_error_for_text_that_is_no_network(text: str) -> None:
    with pytest.raises(NetworkTextError, match="expected"):
        Network.from_text(text)


def test_text_that_is_no_address_is_packed_as_none() -> None:
    assert [packed(text) for text in ("", "x", "10.0.0", "1.2.3.4\0", "::g")] == [None] * 5


@given(st.ip_addresses(), st.ip_addresses(), st.integers(0, 128))
def test_agrees_with_the_standard_library(base: object, address: object, length: int) -> None:
    network = ipaddress.ip_network(
        f"{base}/{length % (33 if ipaddress.ip_address(str(base)).version == 4 else 129)}", strict=False
    )
    found = packed(str(address))
    assert found is not None
    plain = ipaddress.ip_address(found)
    assert (found in Networks([Network.from_text(str(network))])) is (
        plain.version == network.version and plain in network
    )
