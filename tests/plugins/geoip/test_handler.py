"""Metadata of `geoip`, and views that use it (docs/plugins/geoip.md)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from svcdns.plugins.geoip import GeoIP, Options
from svcdns.plugins.view import View
from tests.support import world
from tests.support.geoip_database import PLACE, database

CITY = database({"81.2.69.0/24": PLACE, "2001:db8::/32": {"country": {"iso_code": "DE"}}})
ASN = database(
    {"81.2.69.0/24": {"autonomous_system_number": 396982, "autonomous_system_organization": "EXAMPLE"}}, "GeoLite2-ASN"
)


def plugin(data: bytes | None = CITY, *, edns_subnet: bool = False, **fields: Any) -> GeoIP:
    """Returns the plugin with a database."""
    return GeoIP(Options("db", edns_subnet), world.environment(data=lambda _plugin, _key: data, **fields))


def labels(handler: GeoIP, address: str) -> dict[str, str]:
    """Returns all metadata about an address, without the prefix of the labels."""
    handler.client_metadata(address, "")
    return {label.removeprefix("geoip/"): value for label, value in handler._known[address].items()}


def test_places() -> None:
    """All values are texts, as in CoreDNS."""
    assert labels(plugin(), "81.2.69.142") == {
        "city/name": "Exampleshire",
        "country/code": "GB",
        "country/name": "United Kingdom",
        "country/is_in_european_union": "true",
        "continent/code": "EU",
        "continent/name": "Europe",
        "latitude": "52.2242",
        "longitude": "-0.00001",
        "timezone": "Europe/London",
        "postalcode": "CB4",
        "subdivisions/code": "ENG,CAM",
    }


def test_an_unknown_address() -> None:
    """As recorded from CoreDNS: texts are empty, the truth value is false, and the number is 0."""
    found = labels(plugin(), "192.0.2.1")
    assert {label: value for label, value in found.items() if value} == {"country/is_in_european_union": "false"}
    assert labels(plugin(ASN), "192.0.2.1") == {"asn/number": "0", "asn/org": ""}


def test_autonomous_systems() -> None:
    """A database of autonomous systems has its own labels."""
    assert labels(plugin(ASN), "81.2.69.1") == {"asn/number": "396982", "asn/org": "EXAMPLE"}


@pytest.mark.parametrize(
    ("subnet", "expected"),
    [
        pytest.param(b"\0\1\x18\0\x51\2\x45", "GB", id="IPv4"),
        pytest.param(b"\0\2\x20\0\x20\1\x0d\xb8", "DE", id="IPv6"),
        pytest.param(b"\0\1\0\0", "", id="no bits"),
        pytest.param(b"\0\3\x18\0\1\2\3", "DE", id="another family: the client's address"),
        pytest.param(None, "DE", id="no option: the client's address"),
    ],
)
def test_the_client_subnet(subnet: bytes | None, expected: str) -> None:
    """With `edns-subnet`, the network of the option replaces the client's address."""
    edns = world.edns(options=() if subnet is None else ((8, subnet),))
    client = world.CLIENT.__class__("2001:db8::7", 1, "::1", 53, "udp", 2)
    query = world.query("x.", edns=edns, client=client)
    assert plugin(edns_subnet=True).metadata(query, "geoip/country/code") == expected
    assert plugin().metadata(query, "geoip/country/code") == "DE"


def test_a_new_database_is_used_at_once() -> None:
    """Answers from the earlier database are dropped, and so are the classes of clients."""
    calls: dict[str, Callable[[bytes], None]] = {}
    invalidated: list[Any] = []
    handler = plugin(None, on_data=lambda _plugin, key, call: calls.update({key: call}), invalidate=invalidated.extend)
    assert handler.client_metadata("81.2.69.1", "geoip/country/code") == ""
    calls["db"](CITY)
    assert handler.client_metadata("81.2.69.1", "geoip/country/code") == "GB"
    assert invalidated == [("geoip", "db")]
    assert "geoip" in View.client_class_dependencies


def test_clients_of_one_place_are_one_class() -> None:
    """A view that asks for the country has a class for each country, not for each address."""
    options = world.options("view", "view v {\n expr metadata('geoip/country/code') == 'GB'\n}")
    block = world.block("metadata", "view")
    peers = (plugin(),)
    view = View(options, world.environment(block=block, peers=lambda _name: peers))
    found = [view.client_class(address) for address in ("81.2.69.1", "81.2.69.2", "192.0.2.1", "2001:db8::1")]
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_the_memory_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When too many addresses are remembered, all are forgotten."""
    monkeypatch.setattr("svcdns.plugins.geoip.handler.MAX_KNOWN", 3)
    handler = plugin()
    for number in range(10):
        assert handler.client_metadata(f"81.2.69.{number}", "geoip/country/code") == "GB"
        assert len(handler._known) <= 3


def test_a_damaged_database_has_no_metadata(tmp_path: Path) -> None:
    """A look-up that fails gives empty texts."""
    at = CITY.index(b"Exampleshire")
    damaged = CITY[:at] + b"\xff" * 12 + CITY[at + 12 :]
    assert plugin(damaged).client_metadata("81.2.69.1", "geoip/country/code") == ""
