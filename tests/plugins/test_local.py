"""The plugin *local* (docs/behaviour/plugins.md#local)."""

from __future__ import annotations

import pytest

from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply
from svcdns.plugins.local import Local, Options
from svcdns.telemetry.counters import Counters
from svcdns.wire.codes import RD
from tests.support import world

NOBODY = Reply(error="went on")


def soa(owner: str) -> str:
    """Returns the SOA record of a zone in the notation of `summary`."""
    return f"auth {owner} 604800 IN SOA localhost. root.localhost. SERIAL 0 0 0 604800"


@pytest.mark.parametrize(
    ("name", "rtype", "expected"),
    [
        pytest.param("localhost.", "A", ["NOERROR", "localhost. 604800 IN A 127.0.0.1"], id="localhost A"),
        pytest.param(
            "LocalHost.", "AAAA", ["NOERROR", "LocalHost. 604800 IN AAAA ::1"], id="localhost AAAA, case kept"
        ),
        pytest.param("localhost.", "NS", ["NOERROR", "localhost. 604800 IN NS localhost."], id="localhost NS"),
        pytest.param("localhost.", "MX", ["NOERROR", soa("localhost.")], id="localhost MX"),
        pytest.param("a.b.localhost.", "A", ["NOERROR", "a.b.localhost. 604800 IN A 127.0.0.1"], id="below localhost"),
        pytest.param("a.localhost.", "TXT", ["NOERROR", soa("a.localhost.")], id="below localhost, another type"),
        pytest.param(
            "localhost.ex.org.",
            "AAAA",
            ["NOERROR", "localhost.ex.org. 604800 IN AAAA ::1"],
            id="localhost with a search path",
        ),
        pytest.param("127.in-addr.arpa.", "A", ["NOERROR", soa("127.in-addr.arpa.")], id="zone, A"),
        pytest.param("0.in-addr.arpa.", "NS", ["NOERROR", "0.in-addr.arpa. 604800 IN NS localhost."], id="zone, NS"),
        pytest.param(
            "1.0.0.127.in-addr.arpa.", "PTR", ["NOERROR", "1.0.0.127.in-addr.arpa. 604800 IN PTR localhost."], id="PTR"
        ),
        pytest.param(
            "1.0.0.127.in-addr.arpa.", "A", ["NOERROR", soa("127.in-addr.arpa.")], id="loopback, another type"
        ),
        pytest.param("9.255.IN-addr.arpa.", "PTR", ["NXDOMAIN", soa("255.IN-addr.arpa.")], id="nothing there"),
    ],
)
def test_answers(name: str, rtype: str, expected: list[str]) -> None:
    """Replies have no AA, and can be reused without a time limit."""
    reply = world.now(Local(Options(), world.environment()).handle(world.query(name, rtype), world.following()))
    assert world.summary(reply) == expected
    assert (reply.flags, reply.lifetime) == (RD, UNTIL_CHANGED)


def test_the_apex_soa() -> None:
    """A query for the SOA record of a local zone has it in the answer section."""
    reply = world.now(
        Local(Options(), world.environment()).handle(world.query("255.in-addr.arpa.", "SOA"), world.following())
    )
    assert world.summary(reply) == ["NOERROR", soa("255.in-addr.arpa.").removeprefix("auth ")]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("xlocalhost.", Options(), id="no label boundary on the left"),
        pytest.param("localhosts.org.", Options(), id="nor on the right"),
        pytest.param("126.in-addr.arpa.", Options(), id="another network"),
        pytest.param("localhost.ex.org.", Options(localhost_prefix=False), id="prefix off"),
    ],
)
def test_the_following_plugins_answer_other_names(name: str, options: Options) -> None:
    assert Local(options, world.environment()).handle(world.query(name), world.following(NOBODY)) is NOBODY


def test_counts_names_with_the_label_localhost() -> None:
    """The name `localhost.` itself is not counted. Reused replies are counted, too."""
    counters = Counters()
    local = Local(Options(), world.environment(counters=counters))
    assert world.now(local.handle(world.query("localhost."), world.following())).increments == ()
    ((cell, amount),) = world.now(local.handle(world.query("localhost.a."), world.following())).increments
    assert world.counted(counters) == {("coredns_local_localhost_requests_total",): 1}
    counters.add(cell, amount)
    assert world.counted(counters) == {("coredns_local_localhost_requests_total",): 2}


def test_options() -> None:
    """`localhost_prefix` is on by default. If it is given twice, the last value is used."""
    assert world.options("local", "local") == Options(localhost_prefix=True)
    assert world.options("local", "local {\n localhost_prefix off\n}") == Options(localhost_prefix=False)
    assert world.options("local", "local {\n localhost_prefix off\n localhost_prefix on\n}") == Options(
        localhost_prefix=True
    )
    assert world.rejection("local", "local {\n localhost_prefix maybe\n}").startswith("3:19 'maybe' is unknown")
    assert world.rejection("local", "local {\n prefix off\n}").startswith("3:2 unknown property 'prefix'")
