"""The server against the recorded answers of CoreDNS 1.14.7: every case, over UDP and TCP."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.coredns import rfc_rules
from tests.conformance.coredns.client import send_query
from tests.conformance.coredns.comparison import differences
from tests.conformance.coredns.recorded import HERE, NO_REPLY, Case, Line, cases, manifests
from tests.support.api_double import ApiDouble, Fault
from tests.support.server import Server
from tests.support.zone_upstream import ZoneUpstream

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(180)]

FAILING = {"broken.example.test.": "SERVFAIL", "refused.example.test.": "REFUSED"}
NO_REPLY_IS_CORRECT = ("header/response", "acl/drop")
"""Categories in which no reply is correct. Elsewhere a missing reply is a defect of CoreDNS, and the query is skipped.
"""
SHOWN = 10
CASES = cases()
OBJECTS = manifests()


def test_the_recording_is_complete() -> None:
    """The recording has 49 cases and 7751 queries."""
    assert len(CASES) == 49
    assert sum(len(case.lines) for case in CASES) == 7751


def test_each_rule_replaces_recorded_answers() -> None:
    used: set[str] = set()
    for case in CASES:
        size = rfc_rules.advertised_size(case.corefile)
        for line in case.lines:
            for transport in ("udp", "tcp"):
                used |= rfc_rules.expected(line.query, line.expected(transport), size)[1]
    assert used == {rule.name for rule in rfc_rules.RULES}
    assert all(rule.reason for rule in rfc_rules.RULES)


@pytest.mark.parametrize("cold_path", [True, False], ids=["cold path", "chain"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_recorded_answers(case: Case, tmp_path: Path, *, cold_path: bool) -> None:
    """The case lists the differences that are accepted. They do not depend on the cold path."""
    with running(case, tmp_path, cold_path=cold_path) as server:
        mismatches = list(compared(case, server.ports["port"]))
    found = Counter(query for query, _ in mismatches)
    accepted = Counter(query for group in case.accepted for query in group["queries"])
    unexpected = [f"{query}\n  {shown}" for query, shown in mismatches if query not in accepted]
    assert not unexpected, f"{len(unexpected)} differences, such as\n" + "\n".join(unexpected[:SHOWN])
    assert found == accepted, f"no longer different: {sorted(accepted - found)}"
    assert all(group["reason"] for group in case.accepted)


@contextmanager
def running(case: Case, folder: Path, *, cold_path: bool, bind: str = "127.0.0.1", **environ: str) -> Iterator[Server]:
    """Runs the server of a case, with its API server and its upstream. `bind` has the addresses of the server.

    Without `cold_path`, every block with *kubernetes* gets the directive `log`, so that it has no cold path.
    """
    zone = (HERE / "upstream.zone").read_text().splitlines()
    records = [line for line in zone if line and not line.startswith(";")]
    with ApiDouble(OBJECTS) as api, ZoneUpstream(records, FAILING) as upstream:
        api.standing = fault(case.api)
        corefile = case.corefile.replace("{api}", str(api.port)).replace("{upstream}", str(upstream.port))
        corefile = corefile.replace("bind 127.0.0.1", f"bind {bind}")
        if not cold_path:
            corefile = re.sub(r"^( *)kubernetes\b", r"\1log\n\1kubernetes", corefile, flags=re.MULTILINE)
        with Server(folder, corefile, **environ) as server:
            if case.wait == "ready":
                server.until_ready()
            server.until_serving()
            yield server


def fault(api: dict[str, Any]) -> Fault | None:
    """Returns the fault of a case's API server. The double never supports streamed lists."""
    if api.get("stall"):
        return Fault(stalled=True)
    return Fault(api["refuse"], "refused") if "refuse" in api else None


def compared(case: Case, port: int, server: str = "127.0.0.1", client: str = "127.0.0.1") -> Iterator[tuple[str, str]]:
    """Yields each query whose answer differs from the recorded answers, with the differences and both answers.

    `server` and `client` are addresses.
    """
    idents = itertools.cycle(range(1, 65536))
    size = rfc_rules.advertised_size(case.corefile)
    for line in case.lines:
        for transport in ("udp", "tcp"):
            expected, _ = rfc_rules.expected(line.query, line.expected(transport), size)
            if not expected or is_coredns_defect(line, expected):
                continue
            no_reply = expected == [NO_REPLY]
            found = send_query(
                port, line.query, transport, next(idents), no_reply_expected=no_reply, server=server, client=client
            )
            wrong = differences(case, line, expected, rfc_rules.without_server_cookie(found))
            if wrong:
                yield (
                    f"{line.query} over {transport}",
                    f"in {', '.join(wrong)}\n  expected {expected[0]}\n  found    {found}",
                )


def is_coredns_defect(line: Line, expected: list[dict[str, Any]]) -> bool:
    """Returns True for a query that CoreDNS does not answer because it cannot encode the name."""
    return NO_REPLY in expected and not line.query.category.startswith(NO_REPLY_IS_CORRECT)
