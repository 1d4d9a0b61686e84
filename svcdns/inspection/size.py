"""Estimates the memory of svcdns from the size of the cluster.

The figures are differences between measured sums of PSS (docs/performance.md): `make bench BENCH="memory --services
N"`.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from svcdns.errors import SvcdnsError

_MIB: Final = 1 << 20
_BASE: Final = 63 * _MIB
"""Three processes without any cluster object."""
_SERVICE: Final = 3000
"""A Service with one EndpointSlice whose name was queried: (91.2 - 65.6 MiB) / 9,000."""
_ENDPOINT: Final = 120
"""A further endpoint: (101 - 91.2 MiB) / 90,000."""
_WORKER: Final = 26 * _MIB
"""A second worker, or the second program while an upgrade in place runs."""
_TERM: Final = re.compile(r"(services|endpoints|workers)=(\d{1,9})")


class SizeError(SvcdnsError):
    """Raised if the size of a cluster is not written as expected."""


class Estimate(NamedTuple):
    """Memory in octets: the expected use, and the smallest reasonable memory limit of the container."""

    expected: int
    limit: int


def parse(text: str) -> dict[str, int]:
    """Returns the numbers in a text such as `services=5000,endpoints=20000`. Raises SizeError."""
    out: dict[str, int] = {}
    for term in text.split(","):
        found = _TERM.fullmatch(term.strip())
        if found is None:
            raise SizeError(f"--size {text}: 'services=N,endpoints=N' was expected, and optionally 'workers=N'")
        out[found[1]] = int(found[2])
    if "services" not in out:
        raise SizeError(f"--size {text}: 'services=N' is missing")
    return out


def estimate(services: int, endpoints: int, workers: int = 1) -> Estimate:
    """Returns the memory for a cluster. Every Service counts as having at least one endpoint."""
    more = max(0, endpoints - services)
    objects = services * _SERVICE + more * _ENDPOINT
    expected = _BASE + objects + (workers - 1) * (_WORKER + objects // 2)
    return Estimate(expected, (expected + _WORKER + objects // 2) * 6 // 5)
