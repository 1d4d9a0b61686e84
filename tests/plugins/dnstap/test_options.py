"""The options of *dnstap*: the lines that CoreDNS takes, and those that it refuses."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from svcdns import __version__
from svcdns.corefile.errors import CorefileError
from svcdns.plugins.dnstap.options import Endpoint, Output
from tests.support import world

DEFAULT = Output(
    Endpoint("unix", path="dnstap.sock"),
    identity=socket.gethostname().encode(),
    version=f"svcdns-{__version__}".encode(),
)
TLS_FILES = ("cert.pem", "key.pem", "ca.pem")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dnstap dnstap.sock", DEFAULT),
        ("dnstap unix://dnstap.sock full", replace(DEFAULT, full=True)),
        ("dnstap dnstap.sock other", DEFAULT),
        ("dnstap tcp://127.0.0.1:6000", replace(DEFAULT, endpoint=Endpoint("tcp", "127.0.0.1", 6000))),
        ("dnstap tcp://[::1]:6000", replace(DEFAULT, endpoint=Endpoint("tcp", "::1", 6000))),
        ("dnstap tls://example.com:6000 {\nskipverify\n}",
         replace(DEFAULT, endpoint=Endpoint("tls", "example.com", 6000, verifies=False))),
        ("dnstap dnstap.sock full 1024 4096",
         replace(DEFAULT, full=True, endpoint=Endpoint("unix", path="dnstap.sock", buffer=1024, queue=40_960_000))),
        ('dnstap dnstap.sock {\nidentity NAME\nversion VER\nextra "a b"\n}',
         replace(DEFAULT, identity=b"NAME", version=b"VER", extra="a b")),
        ("dnstap listen /d.sock full",
         replace(DEFAULT, full=True, endpoint=Endpoint("unix", path="/d.sock", listens=True))),
        ("dnstap listen tls://127.0.0.1:6000 {\ntls cert.pem key.pem ca.pem\nskipverify\n}",
         replace(DEFAULT, endpoint=Endpoint("tls", "127.0.0.1", 6000, listens=True, verifies=False, files=TLS_FILES))),
    ],
)  # fmt: skip
def test_lines(text: str, expected: Output) -> None:
    assert world.options("dnstap", text).outputs == (expected,)


def test_several_lines() -> None:
    found = world.options("dnstap", "dnstap a.sock full\ndnstap tcp://b.example:1\ndnstap listen c.sock").outputs
    assert [one.endpoint.text for one in found] == ["unix://a.sock", "tcp://b.example:1", "unix://c.sock"]
    assert [one.endpoint.is_name for one in found] == [False, True, False]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("dnstap", "Wrong argument count"),
        ("dnstap {\nidentity NAME\n}", "Wrong argument count"),
        ("dnstap listen", "requires an endpoint"),
        ("dnstap d.sock {\nidentity\n}", "Wrong argument count"),
        ("dnstap d.sock {\nextra\n}", "Wrong argument count"),
        ("dnstap d.sock {\nidentitiy NAME\n}", "did you mean 'identity'"),
        ("dnstap d.sock {\ntls a b\n}", "only valid for listeners"),
        ("dnstap listen tls://:6000 {\ntls a\n}", "requires cert and key"),
        ("dnstap listen tls://127.0.0.1:6000", "requires the option 'tls'"),
        ("dnstap d.sock full 1025", "between 1 and 1024"),
        ("dnstap d.sock full 0", "between 1 and 1024"),
        ("dnstap d.sock full 1 4097", "between 1 and 4096"),
        ("dnstap d.sock full x", "invalid MultipleTcpWriteBuf"),
        ("dnstap d.sock full 1 y", "invalid MultipleQueue"),
        ("dnstap tcp://127.0.0.1", "HOST:PORT"),
        ("dnstap unix://", "not an endpoint"),
    ],
)
def test_errors(text: str, error: str) -> None:
    with pytest.raises(CorefileError, match=error):
        world.options("dnstap", text)
