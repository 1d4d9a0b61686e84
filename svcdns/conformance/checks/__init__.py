"""All checks, in groups. `CHECKS` has every check by its name, in the order of the output."""

from __future__ import annotations

from typing import Final

from svcdns.conformance.check import Check
from svcdns.conformance.checks import changes, edns, existence, headless, isc, messages, records, search, transport

CHECKS: Final[dict[str, Check]] = {
    name: one
    for group in (records, headless, existence, search, messages, transport, isc, edns, changes)
    for name, one in group.CHECKS.items()
}
