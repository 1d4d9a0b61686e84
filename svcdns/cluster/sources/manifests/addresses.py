"""Made-up addresses: for Pods and Services that manifests leave without one, the same at every start.

An address follows from a hash of what it is for, so that unrelated edits do not move it; two that meet are told apart in the order of
their keys. Addresses that manifests spell out are never given to something else.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from typing import Final

PODS: Final = {4: "10.244.0.0/16", 6: "fd00:10:244::/64"}
SERVICES: Final = {4: "10.96.0.0/16", 6: "fd00:10:96::/112"}
"""The ranges, kubeadm's usual ones."""

_FIRST: Final = 16
"""Addresses at the start of a range that are left alone."""
_SPAN: Final = 65536 - 2 * _FIRST


def assign(keys: Iterable[str], network: str, taken: Iterable[str]) -> dict[str, str]:
    """An address of the network for each key; `taken` are not used."""
    base = ipaddress.ip_network(network).network_address
    used = set(taken)
    out: dict[str, str] = {}
    for key in sorted(set(keys)):
        offset = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % _SPAN
        address = str(base + _FIRST + offset)
        while address in used:
            offset = (offset + 1) % _SPAN
            address = str(base + _FIRST + offset)
        used.add(address)
        out[key] = address
    return out


def family(address: str) -> int:
    """4 or 6."""
    return 6 if ":" in address else 4
