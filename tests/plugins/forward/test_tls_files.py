"""Upstreams over TLS, from the Corefile to the answer, and their certificate files."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from svcdns.corefile.errors import CorefileError
from svcdns.plugins.forward import gather, period, refresh
from svcdns.plugins.forward.tls_files import decode
from svcdns.serving.transport.quic import TRANSPORT
from svcdns.tls.errors import TlsError
from svcdns.tls.material import Material
from svcdns.wire.codes import Rcode
from tests.support import quic, world
from tests.support.certificates import Authority, authority, pair, server
from tests.support.forwarding import Forwarding, HasPort
from tests.support.quic_server import QuicUpstream
from tests.support.scripted_upstream import ScriptedUpstream, answer, silence

A = answer("a.example.org. 60 IN A 192.0.2.1")


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[ScriptedUpstream]:
    """Starts an upstream that answers over TLS. It would also answer without TLS."""
    async with ScriptedUpstream(A, server(pair(), tmp_path)) as made:
        yield made


def forwarding(
    folder: Path, *upstreams: HasPort, place: str = "tls://127.0.0.1%dns.test:{}", body: str = ""
) -> Forwarding:
    """Returns *forward* with TLS upstreams, and the data that control gathers for it."""
    ca = authority().write(folder)
    known: dict[str, bytes] = {}
    listeners: dict[str, Any] = {}
    body = f"policy sequential\ntls {ca}\n{body}"
    options = world.options("forward", f"forward . tls://::1 {{\n{body}\n}}")
    known |= gather(options, {})
    made = Forwarding(
        *upstreams,
        body=body,
        place=place,
        data=lambda _, key: known.get(key),
        on_data=lambda _, key, call: listeners.setdefault(key, call),
    )
    made.kept["listeners"] = listeners
    return made


async def test_an_answer_over_tls(tmp_path: Path, secure: ScriptedUpstream) -> None:
    """The client uses UDP. The metrics count the upstream queries as TLS."""
    made = forwarding(tmp_path, secure)
    for _ in range(2):
        reply = await made.ask()
        assert world.shown(reply.answer) == ["a.example.org. 60 IN A 192.0.2.1"]
    assert secure.transports == ["tcp", "tcp"]
    to = f"127.0.0.1:{secure.port}"
    assert made.counted("coredns_proxy_conn_cache_misses_total", "forward", to, "tcp-tls") == 1
    assert made.counted("coredns_proxy_conn_cache_hits_total", "forward", to, "tcp-tls") == 1
    assert made.counted("coredns_proxy_request_duration_seconds", "forward", to, "NOERROR") == 2


async def test_an_answer_over_quic(tmp_path: Path) -> None:
    """The client uses UDP. The metrics count the upstream queries as QUIC."""
    ca = quic.authority().write(tmp_path)
    options = world.options("forward", f"forward . quic://::1 {{\n tls {ca}\n}}")
    known = gather(options, {})
    async with QuicUpstream(TRANSPORT) as upstream:
        place, body = "quic://127.0.0.1%dns.test:{}", f"tls {ca}"
        made = Forwarding(upstream, body=body, place=place, data=lambda _, key: known.get(key))
        for _ in range(2):
            assert (await made.ask()).rcode == Rcode.NOERROR
        to = f"127.0.0.1:{upstream.port}"
        assert made.counted("coredns_proxy_conn_cache_misses_total", "forward", to, "quic") == 1
        assert made.counted("coredns_proxy_conn_cache_hits_total", "forward", to, "quic") == 1


@pytest.mark.parametrize(
    ("place", "body"),
    [
        pytest.param("tls://127.0.0.1:{}", "", id="by address"),
        pytest.param("tls://127.0.0.1:{}", "tls_servername dns.test", id="tls_servername"),
        pytest.param("tls://127.0.0.1%dns.test:{}", "prefer_udp", id="prefer_udp"),
        pytest.param("tls://127.0.0.1%dns.test:{}", "force_tcp", id="force_tcp"),
    ],
)
async def test_forms_of_upstreams_over_tls(tmp_path: Path, secure: ScriptedUpstream, place: str, body: str) -> None:
    """Whatever the other options are, an upstream with `tls://` is queried only over TLS."""
    assert (await forwarding(tmp_path, secure, place=place, body=body).ask()).rcode == Rcode.NOERROR
    assert secure.transports == ["tcp"]


async def test_a_wrong_certificate_never_leads_to_unencrypted_queries(tmp_path: Path, secure: ScriptedUpstream) -> None:
    made = forwarding(tmp_path, secure, place="tls://127.0.0.1%other.test:{}")
    reply = await made.ask()
    assert reply.rcode == Rcode.SERVFAIL
    assert "certificate verification failed: hostname mismatch" in reply.error
    assert secure.asked == []


async def test_the_next_upstream_answers_for_one_with_a_wrong_certificate(
    tmp_path: Path, secure: ScriptedUpstream
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    async with ScriptedUpstream(A, server(authority().pair("other.test"), other)) as wrong:
        made = forwarding(tmp_path, wrong, secure)
        assert (await made.ask()).rcode == Rcode.NOERROR
        assert wrong.asked == []


async def test_the_next_upstream_answers_for_one_that_hangs_in_the_handshake(
    tmp_path: Path, secure: ScriptedUpstream
) -> None:
    async with ScriptedUpstream(silence) as mute:
        made = forwarding(tmp_path, mute, secure)
        asking = made.asking()
        while not mute.connections:
            await asyncio.sleep(0)
        await made.turn(0.2)
        async with asyncio.timeout(10):
            assert (await asking).rcode == Rcode.NOERROR


async def test_health_checks_go_over_tls(tmp_path: Path, secure: ScriptedUpstream) -> None:
    made = forwarding(tmp_path, secure)
    (upstream,) = made.servers
    for _ in range(3):
        upstream.query_failed()
    assert upstream.health.circuit_open
    async with asyncio.timeout(10):
        while upstream.health.circuit_open:
            await asyncio.sleep(0)
    assert secure.transports == ["tcp"]


async def test_changed_authorities_are_for_new_connections(tmp_path: Path, secure: ScriptedUpstream) -> None:
    made = forwarding(tmp_path, secure)
    assert (await made.ask()).rcode == Rcode.NOERROR
    ((key, take),) = made.kept["listeners"].items()
    other = Authority().write(tmp_path)
    changed = refresh(made.options, {key: made.plugin._rules[0]._upstreams._environment.data("forward", key) or b""})
    assert decode(changed[key]) == Material(authorities=other.read_bytes())
    take(changed[key])
    assert (await made.ask()).rcode == Rcode.NOERROR
    secure.hang_up()
    (upstream,) = made.servers
    async with asyncio.timeout(10):
        while len(upstream._connections):
            await asyncio.sleep(0)
    assert (await made.ask()).rcode == Rcode.SERVFAIL


async def test_tls_upstreams_need_the_data_of_control() -> None:
    """Without the certificates from control, the plugin raises TlsError."""
    with pytest.raises(TlsError, match="control has not sent"):
        Forwarding(ScriptedPort(), place="tls://127.0.0.1:{}")


class ScriptedPort:
    """A port without a listener."""

    port = 1


# -- files


def test_files_are_gathered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Files are read again if they change. Files that cannot be used are logged once, and have no effect."""
    pair().write(tmp_path)
    authority().write(tmp_path)
    options = world.options(
        "forward", "forward . tls://::1 {\n tls server.crt server.key ca.crt\n}", root=str(tmp_path)
    )
    ((key, payload),) = gather(options, {}).items()
    assert decode(payload) == Material(*pair(), authority().pem)
    assert period(options) == 5.0
    assert refresh(options, {key: payload}) == {}
    shutil.copy(tmp_path / "ca.crt", tmp_path / "server.key")
    broken = refresh(options, {key: payload})
    assert decode(broken[key]) == decode(payload)
    assert refresh(options, broken) == {}
    assert caplog.text.count("the previous certificates stay in use") == 1
    pair().write(tmp_path)
    assert refresh(options, broken) == {key: payload}


def test_files_that_cannot_be_used_end_the_start(tmp_path: Path) -> None:
    options = world.options("forward", f"forward . tls://::1 {{\n tls {tmp_path}/none\n}}")
    with pytest.raises(CorefileError, match=r"Corefile:2:1 .*plugin/forward: open .*/none: no such file"):
        gather(options, {})


def test_the_systems_authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `tls` files, the system's authorities are used. They are read only if an upstream uses TLS."""
    import ssl

    monkeypatch.setenv(ssl.get_default_verify_paths().openssl_cafile_env, str(authority().write(tmp_path)))
    options = world.options("forward", "forward . tls://::1")
    ((key, payload),) = gather(options, {}).items()
    assert decode(payload).authorities.strip() == authority().pem.strip()
    assert period(options) == 0
    assert refresh(options, {key: payload}) == {}
    assert gather(world.options("forward", "forward . ::1"), {}) == {}
