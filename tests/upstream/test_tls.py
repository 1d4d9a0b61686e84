"""Connections to an upstream over TLS: names, authorities, client certificates, sessions and errors."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from svcdns.eventloop.clock import monotonic
from svcdns.tls.errors import TlsError
from svcdns.tls.material import Material
from svcdns.upstream.query import Dropped, ExchangeError, Received, UpstreamQuery, as_message
from svcdns.upstream.tcp import ConnectionOptions, UpstreamConnections
from svcdns.upstream.tls import ClientTls, TlsConnector
from svcdns.wire import names
from svcdns.wire.codes import RD
from tests.support.certificates import Authority, Pair, authority, pair, server
from tests.support.scripted_upstream import ScriptedUpstream, answer, silence
from tests.support.upstream_lies import DROPPED, TRUE, numbered

QUERY = UpstreamQuery(names.from_text("a.example.org."), 1, 1, RD)
A = answer("a.example.org. 60 IN A 192.0.2.1")
TRUSTED = Material(authorities=authority().pem)


class Querying:
    """TLS connections to a scripted server."""

    def __init__(
        self, upstream: ScriptedUpstream, name: str = "dns.test", material: Material = TRUSTED, timeout: float = 10.0
    ) -> None:
        address = ("127.0.0.1", upstream.port)
        self.client_tls = ClientTls(material, lambda: None)
        self.dropped: list[Dropped] = []
        keeping = ConnectionOptions(connect_timeout=timeout)
        self.connections = UpstreamConnections(
            address,
            keeping,
            monotonic,
            TlsConnector(address, name, self.client_tls),
            lambda reason, _: self.dropped.append(reason),
        )

    async def ask(self) -> str:
        """Sends a query. Returns the address in the answer, or the reason for the failure."""
        done: asyncio.Future[Received | ExchangeError] = asyncio.get_running_loop().create_future()
        self.connections.send(QUERY, done.set_result)
        outcome = await asyncio.wait_for(done, 10)
        if isinstance(outcome, ExchangeError):
            return str(outcome).partition(": ")[2]
        return ".".join(map(str, as_message(outcome).answer[0].rdata))

    async def hang_up(self, upstream: ScriptedUpstream) -> None:
        """Closes the connections on the server's side, and waits until the client has noticed."""
        upstream.hang_up()
        async with asyncio.timeout(10):
            while len(self.connections):
                await asyncio.sleep(0)


@pytest.fixture
async def upstream(tmp_path: Path) -> AsyncIterator[ScriptedUpstream]:
    """A server with a certificate for dns.test and for the server's address."""
    async with ScriptedUpstream(A, server(pair(), tmp_path)) as made:
        yield made


async def test_queries_share_one_connection(upstream: ScriptedUpstream) -> None:
    asking = Querying(upstream)
    assert await asyncio.gather(*(asking.ask() for _ in range(20))) == ["192.0.2.1"] * 20
    assert upstream.connections == 1
    assert set(upstream.transports) == {"tcp"}
    asking.connections.stop()


@pytest.mark.parametrize(
    ("names_", "days", "name", "error"),
    [
        pytest.param(("dns.test",), 9, "dns.test", None, id="its name"),
        pytest.param(("127.0.0.1",), 9, "", None, id="its address"),
        pytest.param(("*.dns.test",), 9, "a.dns.test", None, id="a wildcard"),
        pytest.param(
            ("other.test",), 9, "dns.test", "tls: certificate verification failed: hostname mismatch", id="another name"
        ),
        pytest.param(
            ("dns.test",),
            9,
            "",
            "tls: certificate verification failed: ip address mismatch",
            id="a name in place of its address",
        ),
        pytest.param(
            ("dns.test",), -1, "dns.test", "tls: certificate verification failed: certificate has expired", id="expired"
        ),
    ],
)
async def test_the_name_is_verified(
    tmp_path: Path, names_: tuple[str, ...], days: float, name: str, error: str | None
) -> None:
    """Without a configured name, the certificate must have the upstream's address."""
    async with ScriptedUpstream(A, server(authority().pair(*names_, days=days), tmp_path)) as upstream:
        asking = Querying(upstream, name)
        got = await asking.ask()
        assert got.startswith(error) if error else got == "192.0.2.1"
        assert bool(upstream.asked) is (error is None)
        asking.connections.stop()


@pytest.mark.parametrize(("packet", "reason"), [pytest.param(*row, id=name) for name, row in DROPPED.items()])
async def test_the_right_reply_after_a_lie(upstream: ScriptedUpstream, packet: bytes, reason: str) -> None:
    """The wrong message is dropped. The reason is the same as over UDP."""
    name = names.from_text("www.example.org.")
    upstream.respond = lambda query, _: [numbered(one, query.id.to_bytes(2, "big")) for one in (packet, TRUE)]
    asking = Querying(upstream)
    done: asyncio.Future[Received | ExchangeError] = asyncio.get_running_loop().create_future()
    asking.connections.send(UpstreamQuery(name, 1, 1, RD), done.set_result)
    outcome = await asyncio.wait_for(done, 10)
    assert not isinstance(outcome, ExchangeError)
    assert as_message(outcome).answer[0].rdata == bytes((192, 0, 2, 1))
    assert asking.dropped == [reason]
    asking.connections.stop()


async def test_an_authority_that_is_not_trusted(upstream: ScriptedUpstream) -> None:
    asking = Querying(upstream, material=Material(authorities=Authority().pem))
    assert (await asking.ask()).startswith(
        "tls: certificate verification failed: unable to get local issuer certificate"
    )
    assert upstream.asked == []


async def test_a_client_certificate(tmp_path: Path) -> None:
    """The server answers only a client with a certificate."""
    context = server(pair(), tmp_path)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority().pem.decode())
    async with ScriptedUpstream(A, context) as upstream:
        with_one = Querying(upstream, material=Material(*authority().pair("client.test"), authority().pem))
        assert await with_one.ask() == "192.0.2.1"
        with_one.connections.stop()
        without = Querying(upstream)
        assert (await without.ask()).startswith("connection ended")
        without.connections.stop()


async def test_sessions_are_resumed(upstream: ScriptedUpstream) -> None:
    """After a change of certificates, no old session is resumed."""
    asking = Querying(upstream)
    for _ in range(3):
        assert await asking.ask() == "192.0.2.1"
        await asking.hang_up(upstream)
    assert upstream.resumed == [False, True, True]
    asking.client_tls.replace(TRUSTED)
    assert await asking.ask() == "192.0.2.1"
    await asking.hang_up(upstream)
    asking.client_tls.replace(Material(authorities=authority().pem + Authority().pem))
    assert await asking.ask() == "192.0.2.1"
    await asking.hang_up(upstream)
    asking.client_tls.replace(Material(authorities=Authority().pem))
    assert (await asking.ask()).startswith("tls: certificate verification failed")
    assert upstream.resumed == [False, True, True, True, False]


async def test_material_that_cannot_be_used() -> None:
    """If the new certificate and key do not match, the previous TLS context stays in use."""
    client_tls = ClientTls(TRUSTED, lambda: None)
    context = client_tls.context
    with pytest.raises(TlsError, match="key values mismatch"):
        client_tls.replace(Material(pair().certificate, Authority().pair("a").key, authority().pem))
    assert client_tls.context is context


async def test_the_error_for_a_server_without_tls() -> None:
    async def chatter(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello, this is another protocol\r\n")
        writer.close()

    listening = await asyncio.start_server(chatter, "127.0.0.1", 0)
    async with listening:
        chatty = ScriptedUpstream()
        chatty._elsewhere.close()
        chatty.port = listening.sockets[0].getsockname()[1]
        assert await Querying(chatty).ask() in ("tls: wrong version number", "tls: packet length too long")


async def test_a_handshake_that_hangs_ends_after_the_connect_timeout() -> None:
    async with ScriptedUpstream(silence) as mute:
        asking = Querying(mute, timeout=0.05)
        assert await asking.ask() == "i/o timeout"
        async with asyncio.timeout(10):
            while mute._writers:
                await asyncio.sleep(0)
        assert mute.asked == []


async def test_a_closed_port() -> None:
    """The error is the same as without TLS."""
    async with ScriptedUpstream() as gone:
        port = gone.port
    gone.port = port
    assert "connect call failed" in await Querying(gone).ask()


def test_an_unusable_client_certificate_is_an_error() -> None:
    """Without a client certificate, the machine's authorities are trusted."""
    assert isinstance(ClientTls(Material(), lambda: None).context, ssl.SSLContext)
    with pytest.raises(TlsError):
        ClientTls(Material(*Pair(b"x", b"y")), lambda: None)
