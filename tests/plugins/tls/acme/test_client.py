"""One attempt to obtain a certificate from an ACME server in this process, and from servers with faults."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from svcdns.plugins.tls.acme.account_key import AccountKey
from svcdns.plugins.tls.acme.certificate import CertificateRequest, lifetime
from svcdns.plugins.tls.acme.client import MAX_NONCES, AcmeClient
from svcdns.plugins.tls.acme.errors import MAX_TEXT, AcmeError, printable
from svcdns.plugins.tls.acme.http import MAX_BODY, AcmeHttp, HttpReply
from svcdns.plugins.tls.options import Acme
from svcdns.tls.contexts import server_context
from svcdns.tls.material import Material
from tests.support.acme import URL, AcmeDouble, problem, reply

DOMAINS = ("*.a.example", "a.example")


async def obtain(server: AcmeDouble, pauses: list[float] | None = None, email: str = "") -> Material:
    """Returns the certificate for DOMAINS. Adds the pauses of the client to `pauses`."""
    slept = [] if pauses is None else pauses

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        assert len(slept) < 1000

    client = AcmeClient(server, AccountKey.generate(), f"{URL}/directory", sleep)  # type: ignore[arg-type]
    return await client.obtain(DOMAINS, email, server.present)


async def test_a_certificate() -> None:
    """The certificate belongs to its key and can be served. The TXT records of both domains have the same owner."""
    server = AcmeDouble(seconds=7200)
    material = await obtain(server, email="hostmaster@a.example")
    assert server_context(material)
    assert lifetime(material.certificates) == pytest.approx(7200, abs=1)
    assert [len(values) for values in server.records.values()] == [2]
    account = {"termsOfServiceAgreed": True, "contact": ["mailto:hostmaster@a.example"]}
    assert server.payloads["/account"] == account
    assert server.payloads["/authorization/0"] is None


async def test_an_account_without_an_address() -> None:
    server = AcmeDouble()
    await obtain(server)
    assert server.payloads["/account"] == {"termsOfServiceAgreed": True}


async def test_valid_authorizations_need_no_challenge() -> None:
    """The server may know from an earlier order that the client controls the domains."""
    server = AcmeDouble()
    valid = {"identifier": {"type": "dns", "value": "a.example"}, "status": "valid"}
    server.faults = {
        "/authorization/0": [reply(200, valid)],
        "/authorization/1": [reply(200, valid)],
        "/order/1": [reply(200, {"status": "ready", "finalize": f"{URL}/finalize"})],
    }
    await obtain(server)
    assert "/challenge/0" not in server.requests


async def test_a_refused_nonce_is_replaced() -> None:
    server = AcmeDouble()
    server.faults = {"/order": [problem("badNonce"), problem("badNonce")]}
    await obtain(server)
    assert server.requests.count("/order") == 3
    server.faults = {"/order": [problem("badNonce")] * 100}
    with pytest.raises(AcmeError, match="refuses its own nonces"):
        await obtain(server)
    assert len(server.faults["/order"]) == 100 - MAX_NONCES


async def test_a_state_is_read_again_after_a_pause() -> None:
    """The server states the pause, within bounds."""
    server, pauses = AcmeDouble(), [0.0]
    order = {"status": "processing", "finalize": f"{URL}/finalize"}
    server.faults = {
        "/order/1": [
            reply(200, {**order, "status": "pending"}, retry_after="7"),
            reply(200, {**order, "status": "ready"}),
            reply(200, order, retry_after="99999"),
            reply(200, order, retry_after="soon"),
            reply(200, {**order, "status": "invalid"}),
        ],
        "/finalize": [reply(200, order)],
    }
    with pytest.raises(AcmeError, match=r"the order is invalid$"):
        await obtain(server, pauses)
    assert pauses == [0, 7, 2, 30, 2]


HUGE = reply(200, b"[" * 5000)
INVALID = {"identifier": {"type": "dns", "value": "other.example"}, "status": "pending"}


@pytest.mark.parametrize(
    ("path", "fault", "error"),
    [
        pytest.param("/directory", reply(200, b"<html>"), "no valid directory: JSON is malformed", id="no JSON"),
        pytest.param("/directory", reply(200, b"{}"), "no valid directory", id="missing fields"),
        pytest.param("/directory", reply(200, HUGE.body), "no valid directory", id="deep JSON"),
        pytest.param("/directory", reply(503, b"\xff"), "the server replied 503: no reason was given", id="status"),
        pytest.param(
            "/directory",
            reply(200, {"newNonce": "", "newAccount": "", "newOrder": "", "meta": {"externalAccountRequired": True}}),
            "requires an external account",
            id="external account",
        ),
        pytest.param("/nonce", reply(200, replay_nonce="bad nonce"), "sends no nonces", id="wrong nonce"),
        pytest.param("/account", reply(201, {}), "no URL for a new resource", id="no account URL"),
        pytest.param("/account", problem("userActionRequired"), "replied 400: userActionRequired why", id="problem"),
        pytest.param("/order", reply(201, [], location=f"{URL}/order/1"), "no valid order", id="another JSON value"),
        pytest.param("/authorization/0", reply(200, INVALID), "the authorization for other.example", id="other domain"),
        pytest.param(
            "/authorization/0",
            reply(200, {"identifier": {"type": "dns", "value": "a.example"}, "status": "pending"}),
            "offers no dns-01 challenge for a.example",
            id="no challenge",
        ),
        pytest.param("/challenge/0", problem("serverInternal"), "replied 400: serverInternal why", id="challenge"),
        pytest.param("/finalize", problem("badCSR"), "replied 400: badCSR why", id="finalize"),
        pytest.param(
            "/finalize",
            reply(200, {"status": "invalid", "finalize": "x", "error": {"detail": "no"}}),
            "the order is invalid: no",
            id="invalid order",
        ),
        pytest.param("/certificate", reply(200, b"x"), "the issued certificate cannot be read", id="no certificate"),
        pytest.param("/certificate", AcmeError("acme.test: no response within 30 s"), "no response", id="timeout"),
    ],
)
async def test_a_faulty_server(path: str, fault: Any, error: str) -> None:
    server = AcmeDouble()
    server.faults = {path: [fault]}
    with pytest.raises(AcmeError, match=error):
        await obtain(server)


async def test_an_order_with_too_many_authorizations() -> None:
    server = AcmeDouble()
    urls = [f"{URL}/authorization/0"] * 3
    order = {"status": "pending", "finalize": f"{URL}/finalize", "authorizations": urls}
    server.faults = {"/order": [reply(201, order, location=f"{URL}/order/1")]}
    with pytest.raises(AcmeError, match="more authorizations than domains"):
        await obtain(server)


async def test_an_order_that_is_never_ready() -> None:
    server = AcmeDouble()
    server.faults = {"/order/1": [reply(200, {"status": "pending", "finalize": "x"})] * 1000}
    with pytest.raises(AcmeError, match="the order is still pending"):
        await obtain(server)


async def test_a_failed_challenge() -> None:
    """The text of the server is in the error, without control characters."""
    server = AcmeDouble()
    client = AcmeClient(server, AccountKey.generate(), f"{URL}/directory", lambda _: asyncio.sleep(0))  # type: ignore[arg-type]

    async def present(_values: Any) -> None:
        """Publishes nothing."""

    with pytest.raises(AcmeError, match=r"a.example is invalid: unauthorized no TXT record  \[31m found$"):
        await client.obtain(DOMAINS, "", present)


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        pytest.param(problem("rateLimited", status=429, retry_after="600"), 600, id="stated"),
        pytest.param(problem("rateLimited", status=429), 3600, id="not stated"),
        pytest.param(problem("serverInternal", status=503, retry_after="999999999"), 86400, id="bounded"),
        pytest.param(problem("serverInternal", status=500), 0, id="no limit"),
    ],
)
async def test_the_pause_after_a_rate_limit(fault: Any, seconds: float) -> None:
    server = AcmeDouble()
    server.faults = {"/order": [fault]}
    with pytest.raises(AcmeError) as raised:
        await obtain(server)
    assert raised.value.retry_after == seconds


@pytest.mark.parametrize(
    ("issue", "error"),
    [
        pytest.param(
            lambda server, csr: server.issued(csr, key=ec.generate_private_key(ec.SECP256R1()).public_key()),
            "has another key",
            id="another key",
        ),
        pytest.param(lambda server, csr: server.issued(csr, ["a.example"]), r"not valid for \*.a.example", id="name"),
        pytest.param(lambda server, csr: server.issued(csr) * 11, "more than 10 certificates", id="long chain"),
        pytest.param(lambda server, csr: server.issued(csr)[:-200], "cannot be read", id="cut off"),
    ],
)
async def test_a_wrong_certificate(
    issue: Callable[[AcmeDouble, x509.CertificateSigningRequest], bytes], error: str
) -> None:
    server = AcmeDouble()
    server.issue = lambda csr: issue(server, csr)
    with pytest.raises(AcmeError, match=error):
        await obtain(server)


async def test_an_expired_certificate() -> None:
    with pytest.raises(AcmeError, match="has expired"):
        await obtain(AcmeDouble(seconds=-100))


def test_a_chain_without_text_between_the_certificates() -> None:
    """Text that the server adds is not served."""
    server, request = AcmeDouble(), CertificateRequest(("a.example",))
    chain = b"subject: x\n" + server.issued(x509.load_der_x509_csr(request.der))
    assert request.accept(chain).certificates.startswith(b"-----BEGIN CERTIFICATE-----\n")
    assert lifetime(b"x") == 0.0


def test_the_account_key() -> None:
    key = AccountKey.generate()
    assert AccountKey.from_pem(key.pem).thumbprint == key.thumbprint
    assert len(key.challenge_value("token")) == 43
    for pem in (b"", b"x", key.pem[:-40], key.pem.replace(b"PRIVATE", b"PUBLIC")):
        with pytest.raises(AcmeError, match=r"has no ECDSA key with the curve P-256$"):
            AccountKey.from_pem(pem)


def test_a_long_text_of_a_server() -> None:
    assert printable("x" * 1000) == "x" * MAX_TEXT + "..."


@asynccontextmanager
async def serving(answer: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Yields the URL of a server, and its requests. The server sends `answer`, and closes, unless `answer` is empty."""
    requests: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        requests.append(await reader.read(65536))
        if answer:
            writer.write(answer)
            writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/dir", requests
        for writer in writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def request(method: str, url: str, body: bytes = b"", **fields: Any) -> HttpReply:
    """Returns the response to a request. `fields` are ACME options."""
    http = await AcmeHttp.open(Acme(("a",), **{"ca": url, **fields}))
    try:
        return await http.request(method, url, body)
    finally:
        await http.close()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "closed the connection", id="cut off"),
        pytest.param(b"SSH-2.0-x\r\n\r\n", "no response of HTTP/1", id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(MAX_BODY + 1), "more than 1048576 octets", id="large"),
    ],
)
async def test_a_faulty_http_server(answer: bytes, error: str) -> None:
    async with serving(answer) as (url, _):
        with pytest.raises(AcmeError, match=f"^127.0.0.1: .*{error}"):
            await request("GET", url)


async def test_the_response_of_http() -> None:
    """No redirect is followed."""
    async with serving(b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\nContent-Length: 2\r\n\r\nok") as (url, requests):
        found = await request("POST", url, b"{}")
    assert (found.status, found.headers["location"], found.body) == (302, "http://x/", b"ok")
    assert b"Content-Type: application/jose+json\r\nContent-Length: 2\r\n\r\n{}" in requests[0]


async def test_a_server_that_does_not_respond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svcdns.plugins.tls.acme.http.TIMEOUT", 0.05)
    async with serving(b"") as (url, _):
        with pytest.raises(AcmeError, match=r"^127.0.0.1: no response within 0.05 s$"):
            await request("GET", url)


@pytest.mark.parametrize(
    "url", ["ftp://a/", "file:///etc/passwd", "http://a/", "https://a:b@c/", "https://", "https://a\n"]
)
async def test_a_url_that_is_not_used(url: str) -> None:
    """If the directory has the scheme https, all other URLs must have it."""
    with pytest.raises(AcmeError, match="a URL that cannot be used"):
        await request("GET", url, ca="https://acme.test/")


async def test_addresses_from_the_configured_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first address that accepts a connection is used. The name stays in the field Host."""
    asked: list[tuple[str, Any]] = []

    def addresses_of(host: str, servers: Any = ()) -> list[str]:
        asked.append((host, list(servers)))
        return ["192.0.2.53"] if host == "ns.test" else ["127.0.0.2", "127.0.0.1"]

    monkeypatch.setattr("svcdns.plugins.tls.acme.http.addresses_of", addresses_of)
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as (address, requests):
        url = address.replace("127.0.0.1", "acme.test")
        assert (await request("GET", url, resolver=("ns.test", 5353))).status == 200
    assert asked == [("ns.test", []), ("acme.test", [("192.0.2.53", 5353)])]
    assert f"Host: {url.removeprefix('http://').removesuffix('/dir')}\r\n".encode() in requests[0]
