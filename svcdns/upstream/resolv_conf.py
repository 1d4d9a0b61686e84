"""Reads the name servers of a file in the format of resolv.conf(5)."""

from __future__ import annotations

import ipaddress


def nameservers(content: bytes, port: int = 53) -> list[tuple[str, int]]:
    """Returns the addresses on the `nameserver` lines, without zone IDs, each with `port`. Other lines are ignored."""
    out = []
    for line in content.decode(errors="replace").splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) > 1 and words[0] == "nameserver":
            text = words[1].partition("%")[0]
            try:
                ipaddress.ip_address(text)
            except ValueError:
                continue
            out.append((text, port))
    return out
