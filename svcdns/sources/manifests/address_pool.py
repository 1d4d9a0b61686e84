"""Addresses and name suffixes for objects that have none: the same ones at every start, for the same manifests on any
machine.

An address follows from a hash of the namespace and name of its object. If two hashes collide, the object with the
smaller name gets the address and the other one its next hash. So an object has the same address whatever other
manifests there are, unless two collide, and nothing is stored between starts. The ranges are those of kubeadm and of
usual Pod networks.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

from svcdns.cluster.objects import ObjectName

POD_RANGE: Final = IPv4Network("10.244.0.0/16")
POD_RANGE_6: Final = IPv6Network("fd00:10:244::/112")
SERVICE_RANGE: Final = IPv4Network("10.96.0.0/16")
SERVICE_RANGE_6: Final = IPv6Network("fd00:10:96::/112")
MAX_PODS: Final = POD_RANGE.num_addresses - 2

_CHARACTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
"""The characters of Kubernetes' name suffixes: no vowels, and none that looks like another."""


class RangeFullError(Exception):
    """More objects need an address than the range has."""


def assign(
    names: Iterable[ObjectName], network: IPv4Network, network_6: IPv6Network, written: Collection[str]
) -> dict[ObjectName, tuple[str, str]]:
    """An IPv4 and an IPv6 address with the same last 16 bits for each name, none of them in `written`. Raises
    RangeFullError."""
    size = network.num_addresses - 2
    taken = _offsets(written, network) | _offsets(written, network_6)
    assigned = {}
    for name in sorted(set(names)):
        if len(taken) >= size:
            raise RangeFullError
        attempt = 0
        while (offset := 1 + _hash("/".join(name), attempt) % size) in taken:
            attempt += 1
        taken.add(offset)
        assigned[name] = (str(network[offset]), str(network_6[offset]))
    return assigned


def suffix(text: str, length: int, taken: Collection[str] = ()) -> str:
    """A name suffix of `length` letters that follows from `text` and is not in `taken`."""
    attempt = 0
    while True:
        number = _hash(text, attempt)
        found = ""
        for _ in range(length):
            number, index = divmod(number, len(_CHARACTERS))
            found += _CHARACTERS[index]
        if found not in taken:
            return found
        attempt += 1


def _offsets(written: Iterable[str], network: IPv4Network | IPv6Network) -> set[int]:
    """The offsets of the written addresses in the range. Names, as in slices of type FQDN, have none."""
    found = set()
    for text in written:
        with contextlib.suppress(ValueError):
            address = ip_address(text)
            if address in network:
                found.add(int(address) - int(network.network_address))
    return found & set(range(1, network.num_addresses - 1))


def _hash(text: str, attempt: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{text}#{attempt}".encode()).digest()[:8], "big")
