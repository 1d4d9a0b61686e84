"""The interface of the default route."""

from __future__ import annotations

from pathlib import Path

import pytest

from svcdns.accelerator.interface import UnusableInterface, default_interface, driver_of, pod_interface

HEAD = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
NET = "net1\t0002630A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
NOWHERE = "eth2\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0\n"
SLOW = "eth1\t00000000\t0102630A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
FAST = "eth0\t00000000\t0101A8C0\t0003\t0\t0\t50\t00000000\t0\t0\t0\n"
ZERO = "0" * 32
GATEWAY = "fd990000000000000000000000000001"
REJECTED = f"{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo\n"
DEFAULT_V6 = f"{ZERO} 00 {ZERO} 00 {GATEWAY} 00000400 00000001 00000000 00000003     eth3\n"


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "expected"),
    [
        (HEAD + NET + SLOW + FAST, REJECTED, "eth0"),
        (HEAD + NOWHERE + SLOW, DEFAULT_V6, "eth1"),
        (HEAD + NET, REJECTED + DEFAULT_V6, "eth3"),
    ],
    ids=["metrics", "route that rejects", "IPv6 alone"],
)
def test_interface_of_the_default_route(tmp_path: Path, ipv4: str, ipv6: str, expected: str) -> None:
    (tmp_path / "route").write_text(ipv4)
    (tmp_path / "ipv6_route").write_text(ipv6)
    assert default_interface(tmp_path) == expected


def test_no_default_route(tmp_path: Path) -> None:
    (tmp_path / "route").write_text(HEAD + NET)
    with pytest.raises(UnusableInterface, match="no default route"):
        default_interface(tmp_path)


def test_interfaces_that_are_refused() -> None:
    assert driver_of("lo") == ""
    with pytest.raises(UnusableInterface, match="lo has the driver none, not veth"):
        pod_interface("lo")
    with pytest.raises(UnusableInterface, match="there is no interface nowhere here"):
        pod_interface("nowhere")
