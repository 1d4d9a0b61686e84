"""The plugin `nomad`: answers from a double of Nomad's HTTP API, and what happens if it fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.plugins.nomad.handler import MAX_NAMESPACES, Nomad
from svcdns.wire import names
from svcdns.wire.codes import AA, RD, Rcode
from tests.support import world
from tests.support.nomad_double import NomadDouble

SERVICES: dict[tuple[str, str], list[tuple[str, int]]] = {
    ("default", "web"): [("10.0.0.1", 80), ("10.0.0.1", 81), ("2001:db8::1", 82), ("::ffff:10.0.0.2", 83)],
    ("default", "six"): [("2001:db8::6", 1)],
    ("other", "host"): [("10.0.0.3", 1), ("host.test", 2), ("10.0.0.4", 3)],
}
SOA = "{0} 30 IN SOA ns1.{0} hostmaster.service.nomad. SERIAL 3600 600 86400 30"
WEB = "web.default.service.nomad."


@pytest.fixture
def nomad() -> Iterator[NomadDouble]:
    with NomadDouble(SERVICES) as made:
        yield made


def plugin(*doubles: NomadDouble, more: str = "", zone: str = "", **fields: Any) -> Nomad:
    addresses = " ".join(one.url for one in doubles)
    options = world.options("nomad", f"nomad {zone} {{\n address {addresses}\n {more}\n}}")
    return Nomad(options, world.environment(**fields))


async def ask(made: Nomad, *queries: tuple[str, str]) -> list[Reply]:
    """Sends queries at a time, and returns their replies."""
    rest = world.following(rcode_only(Rcode.REFUSED))
    answers = [world.handled(made, world.query(name, rtype), rest) for name, rtype in queries]
    return list(await asyncio.gather(*(world.soon(answer) for answer in answers)))


async def closed(made: Nomad) -> None:
    made.stop()
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not asyncio.current_task()))


@pytest.mark.parametrize(
    ("name", "rtype", "expected"),
    [
        pytest.param(
            "Web.default.service.nomad.",
            "A",
            ["NOERROR", *(f"Web.default.service.nomad. 30 IN A 10.0.0.{n}" for n in (1, 1, 2))],
            id="A",
        ),
        pytest.param(WEB, "AAAA", ["NOERROR", f"{WEB} 30 IN AAAA 2001:db8::1"], id="AAAA"),
        pytest.param("six.default.service.nomad.", "A", ["NOERROR"], id="no address of the type"),
        pytest.param(
            "Six.Default.service.nomad.",
            "SRV",
            [
                "NOERROR",
                "Six.Default.service.nomad. 30 IN SRV 10 10 1 six.default.service.nomad.",
                "add six.default.service.nomad. 30 IN AAAA 2001:db8::6",
            ],
            id="SRV",
        ),
        pytest.param("no.default.service.nomad.", "A", ["NXDOMAIN", SOA.format("no.default.service.nomad.")], id="none"),
        pytest.param(WEB, "TXT", ["NXDOMAIN", SOA.format(WEB)], id="another type"),
        pytest.param(
            "host.other.service.nomad.",
            "A",
            ["NXDOMAIN", "host.other.service.nomad. 30 IN A 10.0.0.3", SOA.format("host.other.service.nomad.")],
            id="an address that is a name",
        ),
        pytest.param(
            "web.default.more.service.nomad.", "AAAA",
            ["NOERROR", "web.default.more.service.nomad. 30 IN AAAA 2001:db8::1"],
            id="further labels",
        ),
        pytest.param("default.service.nomad.", "A", ["REFUSED"], id="no namespace"),
        pytest.param("service.nomad.", "SOA", ["REFUSED"], id="the zone"),
        pytest.param("web.default.test.", "A", ["REFUSED"], id="another zone"),
    ],
)  # fmt: skip
async def test_answers(nomad: NomadDouble, name: str, rtype: str, expected: list[str]) -> None:
    made = plugin(nomad)
    (reply,) = await ask(made, (name, rtype))
    assert world.summary(reply) == expected
    if expected != ["REFUSED"]:
        assert (reply.flags, reply.lifetime) == (AA | RD, 1.0)
    await closed(made)


async def test_errors_of_replies(nomad: NomadDouble) -> None:
    made = plugin(nomad)
    replies = await ask(made, (WEB, "TXT"), ("host.other.service.nomad.", "SRV"))
    assert [reply.error for reply in replies] == ["query type not implemented", "error parsing IP address"]
    await closed(made)


async def test_a_request(tmp_path: Path) -> None:
    """The token, the filter and the namespace are sent, also over a Unix socket. Equal queries share a request."""
    with NomadDouble(SERVICES, "sesame", str(tmp_path / "api.sock")) as nomad:
        made = plugin(nomad, more='token sesame\n filter "Tags contains a"\n ttl 0')
        replies = await ask(made, (WEB, "A"), (WEB, "AAAA"))
        assert [reply.rcode for reply in replies] == [0, 0]
        assert [reply.lifetime for reply in replies] == [0.0, 0.0]
        ((path, query, fields),) = nomad.requests
        assert (path, query) == ("/v1/service/web", {"namespace": "default", "filter": "Tags contains a"})
        assert fields["X-Nomad-Token"] == "sesame"
        await closed(made)


async def test_a_refusal(nomad: NomadDouble, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong token is a reason for SERVFAIL. The log has the reason, and no token. No other address is tried."""
    caplog.set_level(logging.DEBUG)
    with NomadDouble(SERVICES, "sesame") as strict:
        made = plugin(strict, nomad, more="token wrong")
        (reply,) = await ask(made, (WEB, "A"))
        assert (reply.rcode, reply.lifetime, nomad.requests) == (Rcode.SERVFAIL, 0.0, [])
        assert "Unexpected response code: 403 (Permission denied)" in caplog.text
        assert "wrong" not in caplog.text
        await closed(made)


async def test_fail_over(nomad: NomadDouble, caplog: pytest.LogCaptureFixture) -> None:
    """Requests go to the next address if one fails, and then stay there."""
    with NomadDouble(SERVICES) as other:
        made = plugin(other, nomad)
        assert not made.ready()
        made.start()
        async with asyncio.timeout(10):
            while not made.ready():
                await asyncio.sleep(0)
        await ask(made, (WEB, "A"))
        assert (len(other.requests), len(nomad.requests)) == (2, 0)
        other.status = 500
        assert [reply.rcode for reply in await ask(made, (WEB, "A"))] == [0]
        await ask(made, ("six.default.service.nomad.", "A"))
        assert (len(other.requests), len(nomad.requests)) == (3, 2)
        nomad.status = 503
        assert [reply.rcode for reply in await ask(made, (WEB, "A"))] == [Rcode.SERVFAIL]
        assert f'Get "{other.url}/v1/service/web": Unexpected response code: 500 (out of order)' in caplog.text
        await closed(made)


async def test_metrics(nomad: NomadDouble) -> None:
    """Clients choose the namespace in a name, so the number of series is bounded."""
    environment = world.environment()
    made = Nomad(world.options("nomad", f"nomad {{\n address {nomad.url}\n}}"), environment)
    await ask(made, (WEB, "A"), ("no.default.service.nomad.", "A"))
    made._namespaces.update(str(number) for number in range(MAX_NAMESPACES - 1))
    await ask(made, ("web.n.service.nomad.", "A"), ("six.default.service.nomad.", "A"))
    found = world.counted(environment.counters)
    assert found["coredns_nomad_success_requests_total", "dns://:53", "default"] == 2
    assert found["coredns_nomad_failed_requests_total", "dns://:53", "default"] == 1
    assert found["coredns_nomad_failed_requests_total", "dns://:53", "other"] == 1
    await closed(made)


def test_the_fast_path_excludes_the_zone() -> None:
    options = world.options("nomad", "nomad nomad.test")
    made, fast_path = Nomad(options, world.environment()), FastPath()
    assert made.join_fast_path(fast_path)
    assert fast_path.zones == made.own_zones == (names.from_text("nomad.test."),)
    assert made.name_independent(names.from_text("example.org."))
    assert not made.name_independent(names.from_text("test."))
    assert made.ready()
