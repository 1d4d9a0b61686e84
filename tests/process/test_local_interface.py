"""The interface of a node-local server. tests/integration/test_node_local.py adds one in a network namespace."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from svcdns.process import local_interface
from svcdns.process.local_interface import InterfaceError


@pytest.mark.parametrize("name", ["", "a" * 16, "a/b", "..", "a\nb"])
def test_names_that_the_kernel_refuses(name: str) -> None:
    with pytest.raises(InterfaceError, match="no name of an interface"):
        local_interface.add(name, ip_address("192.0.2.1"))


def test_an_interface_that_does_not_exist_is_not_removed() -> None:
    assert local_interface.remove("svcdns-absent") is False


def test_the_loopback_interface_is_not_removed() -> None:
    with pytest.raises(InterfaceError, match="belongs to another program"):
        local_interface.remove("lo")
