"""Made-up addresses and name endings: the same at every start, for the same manifests on any machine.

An address follows from a hash of the namespace and name of what it is for. Two objects whose hashes meet are told apart in the order of
their names: the first one keeps the place and the other tries its next. So an object keeps its address whatever is written beside it,
unless the two collide, and nothing is remembered between starts.

The ranges are those that kubeadm and its usual Pod networks start from, so that the answers look familiar.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

POD_RANGE: Final = IPv4Network("10.244.0.0/16")
POD_RANGE_6: Final = IPv6Network("fd00:10:244::/112")
SERVICE_RANGE: Final = IPv4Network("10.96.0.0/16")
SERVICE_RANGE_6: Final = IPv6Network("fd00:10:96::/112")
MOST_PODS: Final = POD_RANGE.num_addresses - 2

_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
"""What Kubernetes makes name endings of: no vowels, so that they spell nothing, and nothing that looks like another."""

Name = tuple[str, str]
"""Namespace and name."""


class RangeFullError(Exception):
    """More objects ask for an address than the range has."""


def assign(names: Iterable[Name], network: IPv4Network, network_6: IPv6Network, written: Collection[str]) -> dict[Name, tuple[str, str]]:
    """An IPv4 and an IPv6 address with the same last 16 bits for each name, none of them in `written`. Raises RangeFullError."""
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


def ending(text: str, length: int, taken: Collection[str] = ()) -> str:
    """A name ending of that many letters that follows from `text` and is not in `taken`."""
    attempt = 0
    while True:
        number = _hash(text, attempt)
        found = ""
        for _ in range(length):
            number, letter = divmod(number, len(_LETTERS))
            found += _LETTERS[letter]
        if found not in taken:
            return found
        attempt += 1


def _offsets(written: Iterable[str], network: IPv4Network | IPv6Network) -> set[int]:
    """Where in the range the written addresses are; names, which slices of type FQDN hold, are nowhere in it."""
    found = set()
    for text in written:
        with contextlib.suppress(ValueError):
            address = ip_address(text)
            if address in network:
                found.add(int(address) - int(network.network_address))
    return found & set(range(1, network.num_addresses - 1))


def _hash(text: str, attempt: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{text}#{attempt}".encode()).digest()[:8], "big")
