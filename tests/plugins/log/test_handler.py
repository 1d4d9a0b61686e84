"""The plugin *log* (docs/behaviour/plugins.md#log)."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

import pytest

from svcdns.plugin_api.query import Client, Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.log import Log
from svcdns.telemetry import logging as log_lines
from svcdns.wire.codes import AA, RD, Rcode
from tests.support import world

POSITIVE = Reply(flags=AA | RD, answer=world.records("a.example.org. 5 IN A 10.0.0.1"))
NXDOMAIN = Reply(rcode=Rcode.NXDOMAIN)


def lines(text: str, caplog: pytest.LogCaptureFixture, *answered: tuple[Query, Reply]) -> list[str]:
    """Returns the lines that are logged for these queries."""
    caplog.set_level(logging.INFO)
    plugin = Log(world.options("log", text), world.environment())
    for query, reply in answered:
        plugin.observe(query, reply, 83, 0.000123)
    return [record.getMessage() for record in caplog.records]


def test_common_format(caplog: pytest.LogCaptureFixture) -> None:
    """The default format is CoreDNS's, with the query name in lower case."""
    asked = world.query("A.example.org.", ident=4711, edns=world.edns(1232, dnssec_ok=True))
    line = '192.0.2.1:40000 - 4711 "A IN a.example.org. udp 40 true 1232" NOERROR qr,aa,rd 83 0.000123000s'
    assert lines("log", caplog, (asked, POSITIVE)) == [line]


def test_ipv6_client_without_edns_over_tcp(caplog: pytest.LogCaptureFixture) -> None:
    """The address is in brackets, and the size limit is that of TCP."""
    asked = world.query("a.", "TXT", client=Client("2001:db8::1", 9, "::1", 53, "tcp", 2))
    assert lines("log . {combined}", caplog, (asked, NXDOMAIN)) == [
        '[2001:db8::1]:9 - 0 "TXT IN a. tcp 40 false 65535" NXDOMAIN qr 83 0.000123000s "0"'
    ]


@pytest.mark.parametrize(("protocol", "size", "logged"), [("tcp", 1232, 65535), ("udp", 100, 512), ("udp", 1232, 1232)])
def test_the_size_that_a_reply_may_have(
    protocol: str, size: int, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    """As in CoreDNS, the logged limit is 65535 over TCP, whatever EDNS says."""
    asked = world.query("a.", edns=world.edns(size), client=Client("192.0.2.1", 9, "192.0.2.53", 53, protocol, 1))
    assert lines("log . {>bufsize}", caplog, (asked, POSITIVE)) == [str(logged)]


def test_the_first_rule_that_covers_the_name_decides(caplog: pytest.LogCaptureFixture) -> None:
    """A later rule does not apply, even if it would log the reply."""
    text = "log example.org {\n class denial\n}\nlog . {name}"
    inside, outside = world.query("x.example.org."), world.query("elsewhere.")
    found = lines(text, caplog, (inside, POSITIVE), (outside, POSITIVE), (inside, NXDOMAIN))
    assert [line.split(" ")[0] for line in found] == ["elsewhere.", "192.0.2.1:40000"]


def test_placeholders(caplog: pytest.LogCaptureFixture) -> None:
    """`{/...}` without metadata becomes a dash. Unknown placeholders are not replaced."""
    text = 'log . "{local} {rsize} {/kubernetes/kind} {odd} {>rflags}"'
    assert lines(text, caplog, (world.query("a."), POSITIVE)) == ["192.0.2.53 83 - {odd} qr,aa,rd"]


def test_json(caplog: pytest.LogCaptureFixture) -> None:
    """Numbers, flags and truth values have their types."""
    asked = world.query("a.example.org.", ident=4711, edns=world.edns(1232, dnssec_ok=True))
    before = datetime.now(UTC)
    [line] = lines("log {\n format json\n}", caplog, (asked, POSITIVE))
    found = json.loads(line)
    time = found.pop("time")
    assert time.endswith("Z")
    assert before <= datetime.fromisoformat(time) <= datetime.now(UTC)
    assert found == {
        "level": "info",
        "plugin": "log",
        "remote": "192.0.2.1",
        "port": 40000,
        "local": "192.0.2.53",
        "id": 4711,
        "opcode": 0,
        "proto": "udp",
        "name": "a.example.org.",
        "type": "A",
        "class": "IN",
        "size": 40,
        "do": True,
        "bufsize": 1232,
        "rcode": "NOERROR",
        "rflags": ["qr", "aa", "rd"],
        "rsize": 83,
        "duration": 0.000123,
    }


def test_json_has_no_level_before_it(capfd: pytest.CaptureFixture[str]) -> None:
    """A container's log reader takes the whole line as an object."""
    writer = log_lines.set_up()
    try:
        plugin = Log(world.options("log", "log {\n format json\n}"), world.environment())
        plugin.observe(world.query("a."), NXDOMAIN, 83, 0.1)
    finally:
        logging.getLogger(log_lines.ROOT).removeHandler(writer)
        writer.close()
        logging.getLogger(log_lines.ROOT).propagate = True
    assert json.loads(capfd.readouterr().out)["rcode"] == "NXDOMAIN"


def test_one_of_several_replies_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Replies of another class are not counted."""
    asked = [(world.query(f"n{number}."), NXDOMAIN) for number in range(7)]
    with_others = [one for pair in zip(asked, [(world.query("other."), POSITIVE)] * 7, strict=True) for one in pair]
    found = lines('log . "{name}" {\n class denial\n every 3\n}', caplog, *with_others)
    assert found == ["n0.", "n3.", "n6."]


@pytest.mark.parametrize(("bound", "count"), [("123us", 1), ("124us", 0), ("0", 1)])
def test_only_slow_replies_are_logged(bound: str, count: int, caplog: pytest.LogCaptureFixture) -> None:
    assert len(lines(f"log {{\n slower {bound}\n}}", caplog, (world.query("a."), POSITIVE))) == count
