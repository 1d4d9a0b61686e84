"""Compares an answer with the recorded answers of CoreDNS.

These differences are ignored: the order of records other than CNAME, serials of cluster zones, TTLs that a cache counts
down, and the AA bit of cached forwarded answers. A truncated answer may have any of the records of the whole answer.
The numbers of its records may differ by two.
"""

from __future__ import annotations

from tests.conformance.coredns.client import SECTIONS
from tests.conformance.coredns.recorded import Answer, Case, Line

PLAIN = ("timeout", "rcode", "opcode", "header_only", "undecodable", "question", "edns", "ends")


def differences(case: Case, line: Line, expected: list[Answer], found: Answer) -> list[str]:
    """Returns the differences from the most similar recorded answer, or an empty list if a recorded answer is equal."""
    return min((_differences(case, line, one, found) for one in expected), key=len)


def _differences(case: Case, line: Line, expected: Answer, found: Answer) -> list[str]:
    out = [key for key in PLAIN if expected.get(key) != found.get(key)]
    flags = set(expected.get("flags", ())), set(found.get("flags", ()))
    if flags[0] != flags[1] and not (case.ttl_slack and flags[0] ^ flags[1] == {"AA"} and "RA" in flags[1]):
        out.append("flags")
    if "TC" in flags[0] and "TC" in flags[1]:
        return out + _truncated(line, expected, found, forwarded="RA" in flags[1])
    if expected.get("order") != found.get("order"):
        out.append("order")
    sections = (*SECTIONS, "transfer")
    return out + [key for key in sections if not _same(case, expected.get(key, []), found.get(key, []))]


def _truncated(line: Line, expected: Answer, found: Answer, *, forwarded: bool) -> list[str]:
    whole = line.whole or expected
    out = [
        key
        for key in SECTIONS
        if not {_parts(r)[:2] for r in found.get(key, ())} <= {_parts(r)[:2] for r in whole.get(key, ())}
    ]
    if not forwarded and abs(len(expected.get("an", ())) - len(found.get("an", ()))) > 2:
        out.append("number of answers")
    return out


def _same(case: Case, expected: list[str], found: list[str]) -> bool:
    if expected == found:
        return True
    exact = case.exact_zone and all(record.split(" ", 1)[0].lower().endswith(case.exact_zone) for record in expected)
    if exact or not case.ttl_slack or len(expected) != len(found):
        return False
    pairs = zip(sorted(map(_parts, expected)), sorted(map(_parts, found)), strict=True)
    return all(one[:2] == other[:2] and abs(one[2] - other[2]) <= case.ttl_slack for one, other in pairs)


def _parts(record: str) -> tuple[str, str, int]:
    owner, ttl, rest = record.split(" ", 2)
    return owner, rest, int(ttl)
