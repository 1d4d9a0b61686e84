"""Listeners that request certificates of clients without verifying them."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from svcdns.tls.errors import TlsError
from svcdns.tls.material import Material
from svcdns.tls.unchecked_clients import UncheckedContext
from tests.support.certificates import Authority, Pair, authority, pair
from tests.support.encrypted import packet, served


def client(folder: Path, *, certificate: bool) -> ssl.SSLContext:
    """Returns the context of a client with a certificate of an authority that the server does not know, or none."""
    return authority().client(Authority().pair("client.test") if certificate else None, folder)


@pytest.mark.parametrize(
    ("client_auth", "certificate", "may"),
    [
        pytest.param("request", True, True, id="requested and given"),
        pytest.param("request", False, True, id="requested and not given"),
        pytest.param("require", True, True, id="required and given"),
        pytest.param("require", False, False, id="required and not given"),
        pytest.param("require_and_verify", True, False, id="verified"),
    ],
)
async def test_who_may_connect(client_auth: str, certificate: bool, may: bool, tmp_path: Path) -> None:
    """Several records are exchanged on a connection, and HTTP/2 is chosen in the handshake."""
    async with served(client_auth=client_auth) as world:
        try:
            connected = await world.connect(client(tmp_path, certificate=certificate))
            answered = all([(await connected.reply(packet(f"n{number}.b."))).answer for number in range(20)])
        except (OSError, AssertionError):  # with TLS 1.3, a client learns of the refusal when it reads
            answered = False
        assert answered is may


async def test_the_key_log(tmp_path: Path) -> None:
    """The secrets of a connection are appended to the file."""
    log = tmp_path / "keys"
    async with served(client_auth="request", keylog=str(log)) as world:
        assert (await (await world.connect()).reply(packet())).answer
        assert "CLIENT_TRAFFIC_SECRET_0 " in log.read_text()


def test_a_certificate_with_another_key() -> None:
    wrong = Pair(pair().certificate, authority().pair("other.test").key)
    with pytest.raises(TlsError):
        UncheckedContext(Material(*wrong), required=True)
