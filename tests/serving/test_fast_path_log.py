"""The fast path of blocks with *log*. The log lines are those of the chain."""

from __future__ import annotations

import logging
import re

import pytest

from tests.support.outside import NAME, PLAIN, Outside, query, replying
from tests.support.scripted_upstream import Respond, ScriptedUpstream

A = f"{NAME} 300 IN A 192.0.2.1"
SOA = "example.org. 90 IN SOA ns.example.org. host.example.org. 1 7200 3600 1209600 60"
FORMAT = '"{{common}} {{>opcode}} {{local}} %s"'
REPLIES = {
    "an address": replying(A),
    "many addresses": replying(*(f"{NAME} 300 IN A 192.0.2.{number}" for number in range(1, 41))),
    "no such name": replying(authority=[SOA], rcode=3),
    "no such type": replying(authority=[SOA]),
    "a referral": replying(authority=["example.org. 90 IN NS ns.example.org."]),
    "a failure": replying(rcode=2),
    "more than addresses": replying(A, additional=["x.example.org. 60 IN A 192.0.2.9"]),
}
PACKETS = (
    query(),
    query(flags=0x20),
    query("WWW.Example.org.", use_edns=0, payload=1232),
    query(use_edns=0, payload=100),
    query(want_dnssec=True),
    query(rtype="TXT"),
    query() + b"\0",
)


async def lines_of(body: str, respond: Respond, *, objects: bool) -> tuple[list[str], int]:
    """Returns the log lines of queries that come several times, and the number of replies of the fast path.

    If `objects` is true, the plugin gets a query object and a reply object for each of its lines.
    """
    lines: list[str] = []
    handler, logger = logging.Handler(), logging.getLogger("svcdns")
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        async with ScriptedUpstream(respond) as upstream:
            with Outside(body, upstream) as outside:
                if objects:
                    outside.listener.observed = True
                    outside.responder.serve(outside.listener)
                for packet in PACKETS:
                    for _ in range(3):
                        await outside.ask(packet)
                        outside.clock.turn(1)
                return lines, outside.on_fast_path
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


def same(lines: list[str]) -> list[str]:
    """Returns lines without the durations and ports, which differ from run to run."""
    return [re.sub(r" [0-9]+\.[0-9]{9}s", " TIME", re.sub(r":[0-9]+ - ", ":PORT - ", line)) for line in lines]


RULES = {
    "all": "log . " + FORMAT,
    "some classes": "log example.org {{\nclass denial error\n}}",
    "with bufsize": "log example.net\nlog . {{\nclass success\n}}\nbufsize 700",
}


@pytest.mark.parametrize(
    ("rule", "which"),
    [
        *(("all", which) for which in REPLIES),
        *(("some classes", which) for which in ("an address", "no such type", "a referral")),
        ("with bufsize", "many addresses"),
    ],
)
async def test_log_lines(rule: str, which: str) -> None:
    """A reply of the fast path, of the answer table and of the chain has the same line, with a duration."""
    body = f"{RULES[rule]}\n{PLAIN}"
    found, on_fast_path = await lines_of(body, REPLIES[which], objects=False)
    expected, chained = await lines_of(body, REPLIES[which], objects=True)
    assert same(found) == same(expected)
    assert all(" TIME" in line for line in same(found))
    assert not chained
    assert on_fast_path or which not in ("an address", "no such name", "no such type")


async def test_metadata_need_objects(caplog: pytest.LogCaptureFixture) -> None:
    """A format with metadata prevents the fast path."""
    caplog.set_level(logging.INFO)
    async with ScriptedUpstream(replying(A)) as upstream:
        with Outside('log . "{{/forward/upstream}} {{name}}"\nmetadata\n' + PLAIN, upstream) as outside:
            await outside.ask(query())
            assert outside.on_fast_path == 0
            assert caplog.messages[-1].startswith("127.0.0.1:")
