"""The HTTP client, against a server on loopback that sends octets given by the test."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from svcdns.sources.api import http_client
from svcdns.sources.api.http_client import ConnectError, Response, ResponseError, Session, Target
from tests.support import certificates
from tests.support.certificates import Authority

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TLS = b"<TLS>"
"""In place of a response: the server negotiates TLS."""
END = b"<end>"
"""In place of a response: the server closes the connection."""


class Scripted:
    """A server that sends the next scripted response after each request header."""

    def __init__(self, *script: bytes, tls: ssl.SSLContext | None = None) -> None:
        self.script, self.tls = list(script), tls
        self.requests: list[str] = []
        self.connections = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
                response = self.script.pop(0)
                if response == END:
                    break
                tunnel = response.endswith(TLS)
                writer.write(response.removesuffix(TLS).removesuffix(END))
                await writer.drain()
                if tunnel:
                    await writer.start_tls(self.tls)  # type: ignore[arg-type]
                if response.endswith(END):
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def scripted(*script: bytes, tls: ssl.SSLContext | None = None, at_once: bool = True) -> AsyncIterator[Scripted]:
    """Runs a scripted server. With `at_once`, a connection begins with TLS."""
    made = Scripted(*script, tls=tls)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls if at_once else None)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


@pytest.fixture
async def session() -> AsyncIterator[Session]:
    """Yields a session that ignores the proxies in environment variables."""
    made = Session()
    yield made
    await made.close()


async def get(
    session: Session, target: Target, *, head: float = 5.0, silence: float = 5.0, **query: str
) -> tuple[Response, bytes]:
    """Returns a response and its whole body."""
    async with session.get(target, query, {"X-Test": "1"}, head=head, silence=silence) as response:
        return response, await response.read()


async def test_a_request(session: Session) -> None:
    """The request has the path and query of the URL, the caller's header fields, and a Host field."""
    async with scripted(OK) as server:
        response, body = await get(session, Target(server.url + "/prefix/api"), labelSelector="a=b,c")
    assert (response.status, response.reason, body) == (200, "OK", b"ok")
    first, *fields = server.requests[0].split("\r\n")
    assert first == "GET /prefix/api?labelSelector=a%3Db%2Cc HTTP/1.1"
    assert {f"Host: 127.0.0.1:{server.port}", "X-Test: 1", "Accept: application/json"} <= set(fields)


async def test_user_and_password_of_a_url(session: Session) -> None:
    """User and password are sent as basic credentials, and not in the Host field."""
    async with scripted(OK) as server:
        await get(session, Target(f"http://us%65r:word@127.0.0.1:{server.port}/"))
    assert "Authorization: Basic dXNlcjp3b3Jk\r\n" in server.requests[0]
    assert f"Host: 127.0.0.1:{server.port}\r\n" in server.requests[0]


@pytest.mark.parametrize(
    ("response", "body"),
    [
        pytest.param(b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", b"", id="empty"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nT: 1\r\n\r\n",
            b"abc0123456789",
            id="chunks, an extension and a trailer",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nall of it" + END, b"all of it", id="until the end"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + OK, b"ok", id="an interim response"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", id="HTTP/1.0"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", b"", id="no content"),
    ],
)
async def test_bodies(session: Session, response: bytes, body: bytes) -> None:
    """The end of a body may be marked by a length, by chunks or by the end of the connection."""
    async with scripted(response) as server:
        assert (await get(session, Target(server.url)))[1] == body


async def test_pieces_arrive_as_they_are_sent(session: Session) -> None:
    """An event of a watch must be returned before the server sends the next event."""
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    async with (
        scripted(chunks) as server,
        session.get(Target(server.url), {}, {}, head=5.0, silence=5.0) as response,
    ):
        async for piece in response.pieces():
            assert piece == b"first"
            break
        assert not response.complete


async def test_a_large_body(session: Session) -> None:
    body = bytes(range(256)) * 8192
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    assert len(body) > 4 * http_client.BUFFER
    async with scripted(head + body, chunked) as server:
        for _ in range(2):
            assert (await get(session, Target(server.url)))[1] == body


async def test_a_connection_is_used_again(session: Session) -> None:
    """The body must have been read to its end, and the target must be the same, except for its path."""
    async with scripted(OK, OK, OK, OK, OK) as server:
        for path in ("/a", "/b"):
            await get(session, Target(server.url + path))
        assert server.connections == 1
        async with session.get(Target(server.url + "/a"), {}, {}, head=5.0, silence=5.0):
            pass
        await get(session, Target(server.url + "/a"))
        assert server.connections == 2
        await get(session, Target(server.url + "/a", server_hostname="other"))
        assert server.connections == 3


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, and more than its length",
    ],
)
async def test_a_connection_that_is_not_used_again(session: Session, response: bytes) -> None:
    """The response says that the connection is to be closed, or octets follow the body."""
    async with scripted(response, OK) as server:
        for _ in range(2):
            assert (await get(session, Target(server.url)))[1] == b"ok"
    assert server.connections == 2


async def test_an_old_connection_is_not_used_again(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a long time without a request, the server may be closing the connection."""
    monkeypatch.setattr(http_client, "IDLE_TIMEOUT", -1.0)
    async with scripted(OK, OK) as server:
        for _ in range(2):
            await get(session, Target(server.url))
    assert server.connections == 2


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        pytest.param(END, "before the end", id="no response"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le" + END, "before the end", id="half a header"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok" + END, "before the end", id="half a body"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n" + END,
            "before the end",
            id="no last chunk",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n",
            "no response of HTTP/1",
            id="a long chunk",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nok\r\n",
            "no response of HTTP/1",
            id="a negative chunk",
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "Transfer-Encoding", id="another coding"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n", "Content-Length", id="two lengths"),
        pytest.param(b"HTTP/1.1 200 OK\r\n folded\r\n\r\n", "no response of HTTP/1", id="a folded line"),
        pytest.param(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "no response of HTTP/1", id="no colon"),
        pytest.param(b"HTTP/2 200\r\n\r\n", "no response of HTTP/1", id="HTTP/2"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", "no response of HTTP/1", id="SSH"),
        pytest.param(b"a" * 70_000, "too long", id="a long header"),
    ],
)
async def test_wrong_responses(session: Session, response: bytes, reason: str) -> None:
    """Each wrong response raises ResponseError."""
    async with scripted(response) as server:
        with pytest.raises(ResponseError, match=reason):
            await get(session, Target(server.url))


async def test_silence(session: Session) -> None:
    """If the server sends nothing for a time, TimeoutError is raised: before a header, or in a body."""
    async with scripted(b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok") as server:
        with pytest.raises(TimeoutError):
            await get(session, Target(server.url), head=0.05)
        with pytest.raises(TimeoutError):
            await get(session, Target(server.url), silence=0.05)


@pytest.mark.parametrize("value", ["a\r\nX: b", "a\0"])
async def test_a_header_field_with_a_control_character(session: Session, value: str) -> None:
    """The request is not sent. Otherwise a token from a file could add header fields."""
    async with scripted(OK) as server:
        with pytest.raises(ResponseError, match="cannot be sent"):
            async with session.get(Target(server.url), {}, {"Authorization": value}, head=5.0, silence=5.0):
                pass
    assert server.requests == []


async def test_a_refused_connection(session: Session) -> None:
    """The error names the address."""
    async with scripted() as server:
        pass
    with pytest.raises(ConnectError, match=f"^connect 127.0.0.1:{server.port}: connection refused$"):
        await get(session, Target(server.url))


async def test_a_name_that_does_not_exist(session: Session) -> None:
    """The error names the host, also for an invalid host name or port."""
    for host in ("a..b", "x" * 64 + ".invalid", "127.0.0.1"):
        port = 99999 if host == "127.0.0.1" else 80
        with pytest.raises(ConnectError, match=f"^connect {host}:{port}: "):
            await get(session, Target(f"http://{host}:{port}/"))


def names(*addresses: str) -> Callable[..., object]:
    """Returns a `getaddrinfo` that returns these addresses for every name."""

    async def found(_host: str, port: int, **_options: object) -> list[object]:
        return [(2, 1, 6, "", (address, port)) for address in addresses]

    return found


async def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next address is tried if a connection is refused. `first` is the address that is tried first."""
    tried: list[str] = []
    connect = http_client._connect_socket

    async def note(family: object, address: tuple[object, ...]) -> object:
        tried.append(str(address[0]))
        return await connect(family, address)  # type: ignore[arg-type]

    monkeypatch.setattr(http_client, "_connect_socket", note)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names("127.0.0.9", "127.0.0.1"))
    async with scripted(OK, OK) as server:
        for first in (0, 1):
            session = Session(first=first)
            await get(session, Target(f"http://name:{server.port}"))
            await session.close()
    assert tried == ["127.0.0.9", "127.0.0.1", "127.0.0.1"]


async def test_an_address_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """After STAGGER seconds the next address is tried, while the first attempt continues."""
    connect = http_client._connect_socket

    async def silent(family: object, address: tuple[object, ...]) -> object:
        if address[0] == "127.0.0.9":
            await asyncio.get_running_loop().create_future()
        return await connect(family, address)  # type: ignore[arg-type]

    monkeypatch.setattr(http_client, "STAGGER", 0.01)
    monkeypatch.setattr(http_client, "_connect_socket", silent)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names("127.0.0.9", "127.0.0.1"))
    async with scripted(OK) as server:
        session = Session()
        assert (await get(session, Target(f"http://name:{server.port}")))[1] == b"ok"
        await session.close()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, ssl.SSLContext]:
    """Returns a certificate authority, and the TLS context of a server with a certificate for `api.test`."""
    authority = Authority()
    return authority, certificates.server(authority.pair("api.test"), tmp_path_factory.mktemp("tls"))


async def test_tls(session: Session, tls: tuple[Authority, ssl.SSLContext]) -> None:
    """The name in the certificate is checked. `server_hostname` may differ from the host of the URL."""
    authority, context = tls
    async with scripted(OK, OK, tls=context) as server:
        url = f"https://127.0.0.1:{server.port}"
        for name in (None, "other.test"):
            with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid"):
                await get(session, Target(url, authority.client(), name))
        with pytest.raises(ssl.SSLCertVerificationError):
            await get(session, Target(url, None, "api.test"))
        target = Target(url, authority.client(), "api.test")
        for _ in range(2):
            assert (await get(session, target))[1] == b"ok"
    assert len(server.requests) == 2


async def test_a_proxy(session: Session) -> None:
    """A proxy for http gets the whole URL, and the credentials for the proxy."""
    async with scripted(OK) as proxy:
        target = Target("http://api.test/path", proxy=f"http://user:word@127.0.0.1:{proxy.port}")
        assert (await get(session, target))[1] == b"ok"
    assert proxy.requests[0].startswith("GET http://api.test/path HTTP/1.1\r\nHost: api.test\r\n")
    assert "Proxy-Authorization: Basic dXNlcjp3b3Jk\r\n" in proxy.requests[0]


async def test_a_proxy_for_https(session: Session, tls: tuple[Authority, ssl.SSLContext]) -> None:
    """TLS is between the client and the server, so the proxy sees neither path nor header fields."""
    authority, context = tls
    connected = b"HTTP/1.1 200 Connection established\r\n\r\n" + TLS
    async with scripted(connected, OK, tls=context, at_once=False) as proxy:
        target = Target("https://api.test/path", authority.client(), proxy=f"http://127.0.0.1:{proxy.port}")
        assert (await get(session, target))[1] == b"ok"
    assert proxy.requests[0] == "CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n"
    assert proxy.requests[1].startswith("GET /path HTTP/1.1\r\nHost: api.test\r\n")


async def test_a_proxy_that_refuses(session: Session) -> None:
    async with scripted(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n") as proxy:
        with pytest.raises(ResponseError, match=r"refuses a connection to api\.test:443: 407 Proxy"):
            await get(session, Target("https://api.test", proxy=f"http://127.0.0.1:{proxy.port}"))


@pytest.mark.parametrize(
    ("without", "goes_to_proxy"), [("", True), ("api.test", False), (".test", False), ("*", False), ("other", True)]
)
async def test_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, without: str, *, goes_to_proxy: bool
) -> None:
    """A session with `environment` uses the proxy in `http_proxy`, except for hosts in `no_proxy`."""
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names("127.0.0.1"))
    async with scripted(OK) as proxy, scripted(OK) as server:
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", without)
        session = Session(environment=True)
        await get(session, Target(f"http://api.test:{server.port}/"))
        await session.close()
    assert (len(proxy.requests), len(server.requests)) == ((1, 0) if goes_to_proxy else (0, 1))


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("response", "body"),
    [
        pytest.param(CHUNKED + b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", b"abc0123456789", id="chunks"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc", id="a length"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\nall of it" + END, b"all of it", id="until the end"),
    ],
)
@pytest.mark.parametrize("slow", [False, True], ids=["at once", "with work"])
async def test_following_a_body(session: Session, response: bytes, body: bytes, *, slow: bool) -> None:
    """If a piece of the body causes work, the next piece is read after the work is done."""
    found: list[bytes] = []
    working = 0

    async def work() -> None:
        nonlocal working
        working += 1
        assert working == 1
        await asyncio.sleep(0)
        working -= 1

    def take(octets: bytes) -> Awaitable[None] | None:
        assert not working
        found.append(octets)
        return work() if slow else None

    async with (
        scripted(response) as server,
        session.get(Target(server.url), {}, {}, head=5.0, silence=5.0) as got,
    ):
        await got.follow(take)
    assert b"".join(found) == body


@pytest.mark.parametrize(
    ("response", "error"),
    [
        pytest.param(CHUNKED + b"3\r\nabc\r\n" + END, ResponseError, id="an early end"),
        pytest.param(CHUNKED + b"3\r\nabc\r\nx\r\n", ResponseError, id="no chunk"),
        pytest.param(CHUNKED + b"3\r\nabc\r\n", TimeoutError, id="silence"),
    ],
)
async def test_a_followed_body_fails(session: Session, response: bytes, error: type[Exception]) -> None:
    """The end of the connection, octets that are no chunk, and silence are errors. Earlier pieces have
    been passed on.
    """
    found: list[bytes] = []
    async with (
        scripted(response) as server,
        session.get(Target(server.url), {}, {}, head=5.0, silence=0.05) as got,
    ):
        with pytest.raises(error):
            await got.follow(found.append)
    assert found == [b"abc"]


async def test_errors_of_the_follower_end_the_body(session: Session) -> None:
    """An exception of the function that takes the octets is raised where the body is followed."""

    def take(octets: bytes) -> None:
        raise ValueError(octets.decode())

    async with (
        scripted(CHUNKED + b"3\r\nabc\r\n") as server,
        session.get(Target(server.url), {}, {}, head=5.0, silence=5.0) as got,
    ):
        with pytest.raises(ValueError, match="abc"):
            await got.follow(take)
