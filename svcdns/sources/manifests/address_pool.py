"""Assigns addresses and name suffixes to objects that have none: the same ones at every start, on every machine.

An address is computed from a hash of the object's namespace and name. If two objects have the same hash, the second by
name gets its next hash. The ranges are those of kubeadm and of common Pod networks.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
from collections.abc import Collection, Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from svcdns.cluster.objects import ObjectName

POD_RANGE: Final = IPv4Network("10.244.0.0/16")
POD_RANGE_6: Final = IPv6Network("fd00:10:244::/112")
SERVICE_RANGE: Final = IPv4Network("10.96.0.0/16")
SERVICE_RANGE_6: Final = IPv6Network("fd00:10:96::/112")
MAX_PODS: Final = POD_RANGE.num_addresses - 2

_CHARACTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
"""The characters of Kubernetes' name suffixes: without vowels, and without those that look alike."""


class RangeFullError(Exception):
    """Raised if an address range has fewer addresses than objects need."""


def assign(
    names: Iterable[ObjectName], network: IPv4Network, network_6: IPv6Network, written: Collection[str]
) -> dict[ObjectName, tuple[str, str]]:
    """Assigns an IPv4 and an IPv6 address with the same last 16 bits to each name.

    Addresses in `written` are not assigned. Raises RangeFullError.
    """
    wanted = sorted(set(names))
    if not wanted:  # as in a dump of a cluster, which may have very many addresses
        return {}
    size = network.num_addresses - 2
    taken = _offsets(written, network) | _offsets(written, network_6)
    assigned = {}
    for name in wanted:
        if len(taken) >= size:
            raise RangeFullError
        attempt = 0
        while (offset := 1 + _hash("/".join(name), attempt) % size) in taken:
            attempt += 1
        taken.add(offset)
        assigned[name] = (str(network[offset]), str(network_6[offset]))
    return assigned


def suffix(text: str, length: int, taken: Collection[str] = ()) -> str:
    """Returns a name suffix of `length` characters that is computed from `text`. The suffix is not in `taken`."""
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
    """Returns the addresses of `written` that are in the range `network`, as offsets from the first address.

    Texts that are not addresses are ignored.
    """
    found = set()
    is_6, first, size = network.version == 6, int(network.network_address), network.num_addresses
    family = socket.AF_INET6 if is_6 else socket.AF_INET
    for text in written:
        if (":" in text) is is_6:
            with contextlib.suppress(OSError, ValueError):
                offset = int.from_bytes(socket.inet_pton(family, text), "big") - first
                if 0 < offset < size - 1:
                    found.add(offset)
    return found


def _hash(text: str, attempt: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{text}#{attempt}".encode()).digest()[:8], "big")
