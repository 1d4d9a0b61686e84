"""What the control process does for *dnstap*: host names, authorities, and connections over TCP and TLS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from svcdns.plugins.dnstap import data, sources
from svcdns.plugins.dnstap.connecting import Connector
from svcdns.plugins.dnstap.options import Options, Output
from svcdns.plugins.dnstap.writer import Writer
from svcdns.telemetry.counters import Counters
from tests.plugins.dnstap.test_writer import FRAME, LOG
from tests.support import world
from tests.support.certificates import authority, pair, server
from tests.support.dnstap_reader import DnstapReader


def options(text: str) -> Options:
    found = world.options("dnstap", text)
    assert isinstance(found, Options)
    return found


def test_host_names_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"a.example": ["192.0.2.1", "2001:db8::1"]}
    monkeypatch.setattr("svcdns.upstream.blocking_resolver.addresses_of", lambda host: found[host])
    named = options("dnstap tcp://a.example:6000")
    assert data.gather(named, {}) == {"addresses a.example": b"192.0.2.1 2001:db8::1"}
    assert data.period(named) == data.PERIOD
    found["a.example"] = ["192.0.2.2"]
    assert data.refresh(named, {}) == {"addresses a.example": b"192.0.2.2"}


def test_a_host_without_an_address_keeps_its_previous_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    from svcdns.upstream import blocking_resolver

    def fail(_host: str) -> list[str]:
        raise blocking_resolver.ResolveError("none")

    monkeypatch.setattr(blocking_resolver, "addresses_of", fail)
    named, known = options("dnstap tcp://a.example:6000"), {"addresses a.example": b"192.0.2.1"}
    assert data.gather(named, {}) == {"addresses a.example": b""}
    assert data.gather(named, known) == known
    assert data.refresh(named, known) == {}


def test_addresses_and_paths_need_no_data() -> None:
    plain = options("dnstap /a.sock\ndnstap tcp://127.0.0.1:1\ndnstap tls://127.0.0.1:2 {\nskipverify\n}")
    assert data.gather(plain, {}) == {}
    assert data.period(plain) == 0
    assert sources(plain) == ()


async def sent(output: Output, reader: DnstapReader, found: dict[str, bytes]) -> list[str]:
    """Sends a message to the output, and returns the names of the metrics that are not 0."""
    counters = Counters()
    environment = world.environment(data=lambda _plugin, key: found.get(key))
    writer = Writer("here", 10, Connector(output.endpoint, environment).connect, counters, LOG, reports=True)
    writer.start()
    writer.put(FRAME, 1)
    await reader.messages_of(1)
    await writer.finish()
    return [name for (name, *_), value in world.counted(counters).items() if value]


async def test_tcp() -> None:
    async with DnstapReader() as reader:
        [output] = options(f"dnstap tcp://here.example:{reader.port}").outputs
        assert await sent(output, reader, {"addresses here.example": b"127.0.0.1"}) == ["svcdns_dnstap_messages_total"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("tls://127.0.0.1:{} {{\nskipverify\n}}", dict[str, bytes]),
        ("tls://dns.test:{}", lambda: {"addresses dns.test": b"127.0.0.1", "authorities": authority().pem}),
    ],
    ids=["unverified", "verified"],
)
async def test_tls(text: str, found: Callable[[], Any], tmp_path: Path) -> None:
    async with DnstapReader(tls=server(pair(), tmp_path)) as reader:
        [output] = options("dnstap " + text.format(reader.port)).outputs
        assert await sent(output, reader, found()) == ["svcdns_dnstap_messages_total"]
