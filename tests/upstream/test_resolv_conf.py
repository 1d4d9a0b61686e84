"""Name servers in files in the format of resolv.conf(5)."""

from __future__ import annotations

from svcdns.upstream.resolv_conf import nameservers


def test_reads_resolv_conf() -> None:
    """Comments and zone IDs in `nameserver` lines are ignored."""
    text = b"search a.b\nnameserver 192.0.2.1 # first\n;nameserver 192.0.2.9\nnameserver fe80::1%eth0\nnameserver x\noptions ndots:5\n"
    assert nameservers(text) == [("192.0.2.1", 53), ("fe80::1", 53)]
