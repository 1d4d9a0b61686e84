"""The plugin *file*, compared with recorded answers of CoreDNS 1.14.7 from the same zone files.

The recorded server had no other plugin.
"""

from __future__ import annotations

import re
from typing import Final

import pytest

from tests.support.zone_answers import RECORDED, Recorded, Server, recording

SOA: Final = re.compile(r"(?P<begin>auth \S+) (?P<ttl>\d+) IN (?P<data>SOA .* (?P<minimum>\d+))")
DIFFERENT: Final = {
    "an empty non-terminal beside a wildcard": ["x.wildapex.test. A"],
    "a zone without NS records": ["nons.test. NS"],
    "a name that follows glue in canonical order, for a query with DO": [
        f"{name}.signed.test. {rtype} DO"
        for name in ("nothere", "x.y.nothere")
        for rtype in ("A", "NS", "DS", "TXT", "SOA")
    ],
    "a wildcard that is an alias, for a query with DO: the signature of the alias": [
        f"x.wc.signed.test. {rtype} DO" for rtype in ("A", "NS", "DS", "TXT", "SOA")
    ],
    "a delegation without DS records, for a query with DO": [
        f"nods.signed.test. {rtype} DO" for rtype in ("A", "NS", "TXT", "SOA")
    ],
}
"""Queries whose replies differ, by the subject in docs/supported.md. Other rules are in `expected` and `agree`."""


def canonical(reply: list[str], *, with_authority: bool = True) -> list[str]:
    """Returns the reply with each record once, in sorted order, and with names in lower case."""
    lines = {line.lower() for line in reply[1:] if with_authority or not line.startswith("auth ")}
    return [reply[0], *sorted(lines)]


def expected(reply: list[str]) -> list[str]:
    """Returns the recorded reply, with the TTL of RFC 2308 §3 for the SOA record of a denial. The signature of the SOA
    record gets the same TTL (RFC 4034 §3).
    """
    lowest = [min(int(found["ttl"]), int(found["minimum"])) for found in map(SOA.match, reply) if found]
    if not lowest:
        return reply
    return [re.sub(r"^(auth \S+) \d+ (IN (?:SOA|RRSIG SOA) )", rf"\1 {lowest[0]} \2", line) for line in reply]


def is_alias_alone(reply: list[str]) -> bool:
    """Returns True if the answer section has aliases, but no record of the query type."""
    types = {line.split()[3] for line in reply[1:] if not line.startswith(("auth ", "add "))}
    return "CNAME" in types and types <= {"CNAME", "DNAME", "RRSIG"}


def agree(line: Recorded, ours: list[str]) -> bool:
    """Returns True if a reply equals the recorded one. After an alias, svcdns adds the SOA record and the proofs of a
    denial, which CoreDNS does not.
    """
    theirs = expected(line.reply)
    if (
        line.rtype != "CNAME"
        and is_alias_alone(ours)
        and any(found.startswith("auth ") and " SOA " in found for found in ours)
    ):
        return canonical(ours, with_authority=False) == canonical(theirs, with_authority=False)
    return canonical(ours) == canonical(theirs)


@pytest.mark.parametrize("zone", sorted(path.name.removesuffix(".zone") for path in RECORDED.glob("*.zone")))
def test_recorded_answers(zone: str) -> None:
    """docs/supported.md lists the differences."""
    server = Server()
    accepted = {query for queries in DIFFERENT.values() for query in queries}
    lines = [line for line in recording() if line.name.endswith(f"{zone}.")]
    assert len(lines) > 10
    found = {str(line): (server.ask(line), line.reply) for line in lines if not agree(line, server.ask(line))}
    unexpected = {query: both for query, both in found.items() if query not in accepted}
    assert not unexpected, "\n".join(f"{query}\n  {ours}\n  {theirs}" for query, (ours, theirs) in unexpected.items())
    assert {str(line) for line in lines} & accepted == set(found), "no longer different"
