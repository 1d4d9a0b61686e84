"""Transfers from primary servers, which may be hostile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import pytest

from svcdns.upstream import zone_client
from svcdns.upstream.query import ExchangeError
from svcdns.upstream.zone_client import fetch_over_udp, fetch_serial, fetch_zone
from svcdns.wire import names, zone_differences
from svcdns.wire.codes import QR, Type
from svcdns.wire.record import Record
from svcdns.wire.request import Request, accept
from svcdns.wire.zone_differences import Difference, ZoneTransfer
from tests.support import world
from tests.support.primary import Script, message, primary, udp_primary, zone_script

ZONE = names.from_text("example.org.")
RECORDS = world.records(
    "example.org. 60 IN SOA ns.example.org. root.example.org. 7 2 3 4 5",
    "example.org. 60 IN NS ns.example.org.",
    "ns.example.org. 60 IN A 10.0.0.1",
    "www.example.org. 60 IN A 10.0.0.2",
)
SOA = RECORDS[0]
OTHER_SOA = world.records("example.org. 60 IN SOA ns.example.org. root.example.org. 8 2 3 4 5")[0]
OUTSIDE = world.records("www.example.net. 60 IN A 10.0.0.3")[0]
QUESTION = (ZONE, int(Type.AXFR))


async def fetched(script: Script) -> list[Record]:
    """Returns the records of a transfer."""
    async with primary(script) as server:
        found = await fetch_zone(ZONE, server, lambda: None)
    assert found.records is not None
    return [found.soa, *found.records]


@pytest.mark.parametrize("per_message", [1, 2, 100])
async def test_a_zone_in_several_messages(per_message: int) -> None:
    """Only the first message needs a question. The SOA record at the end is not part of the result."""
    records = [*RECORDS, OUTSIDE]
    assert await fetched(zone_script("example.org.", lambda: records, per_message)) == list(RECORDS)


def script(*parts: Sequence[Record], flags: int = QR, ident: int = 0, question: tuple[bytes, int] = QUESTION) -> Script:
    """Returns a script that sends these records, and nothing else."""
    return lambda asked, _rtype: [message(asked ^ ident, part, question, flags) for part in parts]


IXFR = (ZONE, int(Type.IXFR))
ADDED = world.records("new.example.org. 60 IN A 10.0.0.9")[0]
DIFFERENCES = ([OTHER_SOA, SOA, RECORDS[3]], [OTHER_SOA, ADDED, OTHER_SOA])


async def test_differences() -> None:
    """An IXFR query states the known version, and gets the way to the next one."""
    queries: list[bytes] = []
    async with primary(script(*DIFFERENCES, question=IXFR), queries.append) as server:
        found = await fetch_zone(ZONE, server, lambda: None, SOA)
    assert found == ZoneTransfer(OTHER_SOA, None, [Difference(SOA, [RECORDS[3]], OTHER_SOA, [ADDED])])
    request = accept(queries[0])
    assert isinstance(request, Request)
    assert (request.rtype, request.serial) == (Type.IXFR, 7)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        pytest.param([[*DIFFERENCES[0], *DIFFERENCES[1]]], "differences", id="the differences"),
        pytest.param([[SOA]], "current", id="a current version"),
        pytest.param([[OTHER_SOA]], "TCP", id="a newer SOA record: TCP"),
        pytest.param([[OTHER_SOA, RECORDS[3]]], "TCP", id="a part of the zone: TCP"),
    ],
)
async def test_differences_over_udp(script: list[list[Record]], expected: str) -> None:
    def answer(ident: int, rtype: int) -> list[bytes]:
        return [message(ident, script[0], (ZONE, rtype))]

    async with udp_primary(answer) as server:
        found = await fetch_over_udp(ZONE, server, SOA)
    assert expected == ("TCP" if found is None else "differences" if found.differences else "current")


async def test_an_error_over_udp() -> None:
    """A server that refuses IXFR over UDP may allow it over TCP."""
    async with udp_primary(lambda ident, rtype: [message(ident, (), (ZONE, rtype), QR | 5)]) as server:
        assert await fetch_over_udp(ZONE, server, SOA) is None


async def test_the_serial() -> None:
    """The serial comes from the answer to a query for SOA."""
    async with primary(zone_script("example.org.", lambda: RECORDS)) as server:
        assert await fetch_serial(ZONE, server) == 7


@pytest.mark.parametrize(
    ("script", "error"),
    [
        pytest.param(script(RECORDS), "the transfer has no end", id="no end"),
        pytest.param(script(()), "a message of the transfer has no records", id="nothing"),
        pytest.param(script(RECORDS[1:]), "does not begin with the SOA record", id="no SOA record"),
        pytest.param(script((*RECORDS, OTHER_SOA)), "ends with another SOA record", id="another version at the end"),
        pytest.param(script((), flags=QR | 5), "REFUSED", id="refused"),
        pytest.param(script(RECORDS, ident=1), "no reply to the query", id="another id"),
        pytest.param(script(RECORDS, flags=0), "no reply to the query", id="a query"),
        pytest.param(
            script(RECORDS, question=(names.from_text("example.net."), 252)), "another question", id="another zone"
        ),
        pytest.param(lambda _ident, _rtype: [b"\0" * 11], "cut off", id="malformed"),
    ],
)
async def test_transfers_that_are_not_used(script: Script, error: str) -> None:
    """A transfer that breaks a rule of RFC 5936 §2.2 is an error."""
    with pytest.raises(ExchangeError, match=error):
        await fetched(script)


@pytest.mark.parametrize(
    ("limit", "error"), [("MAX_OCTETS", "more than 99 octets"), ("MAX_RECORDS", "more than 3 rec")]
)
async def test_limits(monkeypatch: pytest.MonkeyPatch, limit: str, error: str) -> None:
    """The octets and the records of a transfer are bounded."""
    where = zone_client if limit == "MAX_OCTETS" else zone_differences
    monkeypatch.setattr(where, limit, 99 if limit == "MAX_OCTETS" else 3)
    with pytest.raises(ExchangeError, match=error):
        await fetched(zone_script("example.org.", lambda: RECORDS))


@pytest.mark.parametrize("limit", ["READ_TIMEOUT", "MAX_SECONDS"])
async def test_a_primary_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """The time for a message and the time for a transfer are bounded."""
    monkeypatch.setattr(zone_client, limit, 0.05)

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        with pytest.raises(ExchangeError, match=r"no message in time|more than 0\.05 s"):
            await fetch_zone(ZONE, server.sockets[0].getsockname(), lambda: None)


async def test_no_primary_server() -> None:
    """A connection that is refused is an error with the address."""
    with pytest.raises(ExchangeError, match=r"^127\.0\.0\.1:1: "):
        await fetch_serial(ZONE, ("127.0.0.1", 1))
    with pytest.raises(ExchangeError, match=r"^127\.0\.0\.1:1: connection refused$"):
        await fetch_zone(ZONE, ("127.0.0.1", 1), lambda: None)


@pytest.mark.parametrize(
    ("part", "error"),
    [
        pytest.param((RECORDS[3],), "the transfer takes more than", id="records one by one, for ever"),
        pytest.param((), "has no records", id="empty messages"),
        pytest.param((SOA, SOA), "not lead to a newer version", id="SOA records without end"),
    ],
)
async def test_a_primary_server_that_does_not_end(
    monkeypatch: pytest.MonkeyPatch, part: tuple[Record, ...], error: str
) -> None:
    """A trickle keeps each message in time, but not the whole transfer."""
    monkeypatch.setattr(zone_client, "MAX_SECONDS", 0.3)

    ended = asyncio.Event()

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            ident = int.from_bytes(query[:2], "big")
            following = [OTHER_SOA, *part] if part else []
            while not reader.at_eof():
                one = message(ident, following, (ZONE, int(Type.IXFR)))
                following = list(part)
                writer.write(len(one).to_bytes(2, "big") + one)
                await writer.drain()
                await asyncio.sleep(0.005)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        ended.set()

    async with await asyncio.start_server(trickle, "127.0.0.1", 0) as server:
        with pytest.raises(ExchangeError, match=error):
            await fetch_zone(ZONE, server.sockets[0].getsockname(), lambda: None, SOA)
        await asyncio.wait_for(ended.wait(), 10)
