"""The plugin *tenant*."""

from __future__ import annotations

import svcdns_tenant

from svcdns.testing import check_contract

BLOCK = "tenant example.org 10.0.0.0/8"
QUERIES = [("www.example.org.", "A"), ("example.org.", "TXT"), ("www.example.com.", "A")]


def test_it_keeps_to_the_plugin_contract() -> None:
    """Alone, and in front of a cache; clients inside and outside of the network."""
    assert check_contract(svcdns_tenant, BLOCK, QUERIES) > 0
    assert check_contract(svcdns_tenant, f"{BLOCK}\ncache 30", QUERIES) > 0


def test_two_networks_are_two_classes() -> None:
    """And nothing else is."""
    plugin = svcdns_tenant.Tenant(
        svcdns_tenant.Options(b"\7example\3org\0", svcdns_tenant.Network.from_text("10.0.0.0/8")), None
    )
    assert [plugin.client_class(address) for address in ("10.9.8.7", "192.0.2.1", "2001:db8::1")] == [
        "in",
        "out",
        "out",
    ]
