"""The real server against what CoreDNS 1.14.7 answered: every recorded case, over UDP and TCP."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.coredns.asking import ask
from tests.conformance.coredns.comparing import differences
from tests.conformance.coredns.recorded import HERE, SILENCE, Case, Line, cases, manifests
from tests.support.api_double import ApiDouble, Fault
from tests.support.server import Server
from tests.support.zone_upstream import ZoneUpstream

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(180)]

FAILING = {"broken.example.test.": "SERVFAIL", "refused.example.test.": "REFUSED"}
SILENT_ON_PURPOSE = ("header/response", "acl/drop")
"""Classes in which no reply is the right answer; elsewhere a silence of CoreDNS is a defect of its own and is passed over."""
SHOWN = 10
CASES = cases()
OBJECTS = manifests()


def test_the_recording_is_whole() -> None:
    """Every case has its questions, and none was lost."""
    assert len(CASES) == 49
    assert sum(len(case.lines) for case in CASES) == 7751


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_recorded_answers(case: Case, tmp_path: Path) -> None:
    """Each answer is one of those recorded; the differences that are meant are exactly those that the case lists."""
    with running(case, tmp_path) as server:
        misses = list(compared(case, server.ports["port"]))
    met = Counter(question for question, _ in misses)
    accepted = Counter(question for group in case.accepted for question in group["questions"])
    unexpected = [f"{question}\n  {shown}" for question, shown in misses if question not in accepted]
    assert not unexpected, f"{len(unexpected)} differences, such as\n" + "\n".join(unexpected[:SHOWN])
    assert met == accepted, f"no longer different: {sorted(accepted - met)}"
    assert all(group["reason"] for group in case.accepted)


@contextmanager
def running(case: Case, folder: Path) -> Iterator[Server]:
    """The server of a case, with its API server and its upstream."""
    zone = (HERE / "upstream.zone").read_text().splitlines()
    records = [line for line in zone if line and not line.startswith(";")]
    with ApiDouble(OBJECTS) as api, ZoneUpstream(records, FAILING) as upstream:
        api.standing = fault(case.api)
        corefile = case.corefile.replace("{api}", str(api.port)).replace("{upstream}", str(upstream.port))
        with Server(folder, corefile) as server:
            if case.wait == "ready":
                server.until_ready()
            server.until_serving()
            yield server


def fault(api: dict[str, Any]) -> Fault | None:
    """How the API server of a case fails. Streamed lists it never knows: `watch_list` asks for nothing else."""
    if api.get("stall"):
        return Fault(stalled=True)
    return Fault(api["refuse"], "refused") if "refuse" in api else None


def compared(case: Case, port: int) -> Iterator[tuple[str, str]]:
    """Each question whose answer differs, with what differs and both answers."""
    idents = itertools.cycle(range(1, 65536))
    for line in case.lines:
        for transport in ("udp", "tcp"):
            expected = line.expected(transport)
            if not expected or is_a_defect(line, expected):
                continue
            found = ask(port, line.question, transport, next(idents), silent=expected == [SILENCE])
            wrong = differences(case, line, expected, found)
            if wrong:
                yield f"{line.question} over {transport}", f"in {', '.join(wrong)}\n  expected {expected[0]}\n  found    {found}"


def is_a_defect(line: Line, expected: list[dict[str, Any]]) -> bool:
    """Where CoreDNS cannot encode the name that it made, it sends nothing."""
    return SILENCE in expected and not line.question.category.startswith(SILENT_ON_PURPOSE)
