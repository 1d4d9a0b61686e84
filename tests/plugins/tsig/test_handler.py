"""Signed and unsigned queries through the whole chain: verified, refused, and answered with a signature."""

from __future__ import annotations

import base64
import logging

import dns.exception
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.tsig
import pytest

from svcdns.cluster.objects import Namespace, Service
from svcdns.plugins.tsig import Tsig, parse
from tests.support import world
from tests.support.chains import Chains

SECRET = bytes(range(32))
TEXT = base64.b64encode(SECRET).decode()
OTHER = dns.tsig.Key("other.test.", b"x" * 32)
KEY = dns.tsig.Key("key.test.", SECRET)
WRONG = dns.tsig.Key("key.test.", b"wrong")
WEB = "web.d.svc.cluster.local."
OBJECTS = (Namespace("d"), Service("d", "web", ("10.0.0.1",)))


def chains(rules: str = "", zones: str = "") -> Chains:
    return Chains(
        f".:53 {{\n log\n prometheus\n tsig {zones} {{\n secret key.test {TEXT}\n {rules}\n }}\n"
        " kubernetes cluster.local {\n endpoint http://unused\n }\n forward . 192.0.2.1\n}\n",
        OBJECTS,
    )


def ask(
    chain: Chains, name: str = WEB, rtype: str = "A", key: dns.tsig.Key | None = None, opcode: dns.opcode.Opcode = dns.opcode.QUERY,
) -> dns.message.Message:  # fmt: skip
    """Returns the reply. A signature in it has been verified, unless it reports an error."""
    query = dns.message.make_query(name, rtype)
    query.set_opcode(opcode)
    keyring: object = False
    if key is not None:
        query.use_tsig(key)
        keyring = {key.name: key}
    wire = chain.send(query.to_wire())
    try:
        return dns.message.from_wire(wire, keyring=keyring, request_mac=query.mac)
    except (dns.tsig.PeerError, dns.exception.FormError):
        return dns.message.from_wire(wire, keyring=False)


def test_a_signed_query_gets_a_signed_reply() -> None:
    chain = chains()
    for _ in range(3):
        reply = ask(chain, key=KEY)
        assert (reply.had_tsig, reply.answer[0][0].to_text()) == (True, "10.0.0.1")
        unsigned = ask(chain)
        assert (unsigned.had_tsig, unsigned.answer[0][0].to_text()) == (False, "10.0.0.1")
    assert chain.hits() == 3, "unsigned queries are answered without the plugin chain"
    assert ask(chain, "nothing.d.svc.cluster.local.", key=KEY).had_tsig
    assert ask(chain, "nothing.d.svc.cluster.local.", key=KEY).rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize(
    ("key", "error"), [(OTHER, dns.rcode.BADKEY), (WRONG, dns.rcode.BADSIG)], ids=["unknown key", "wrong secret"]
)
def test_an_invalid_signature(key: dns.tsig.Key, error: int) -> None:
    reply = ask(chains(), key=key)
    assert (reply.rcode(), reply.answer) == (dns.rcode.NOTAUTH, [])
    assert reply.tsig is not None
    assert (reply.tsig[0].error, reply.tsig[0].mac) == (error, b"")


@pytest.mark.parametrize("warm", [False, True])
def test_a_required_signature(*, warm: bool) -> None:
    """The answer table, the cold path and shared negative answers give no reply to an unsigned query."""
    chain = chains("require A AXFR")
    if warm:
        for _ in range(3):
            assert ask(chain, key=KEY).rcode() == dns.rcode.NOERROR
    for name in (WEB, "nothing.d.svc.cluster.local.", "nothing2.d.svc.cluster.local.", "outside.example."):
        for _ in range(3):
            assert ask(chain, name).rcode() == dns.rcode.REFUSED
        assert ask(chain, name, key=KEY).rcode() != dns.rcode.REFUSED
    assert ask(chain, WEB, "AAAA").rcode() == dns.rcode.NOERROR


def test_require_all_and_none() -> None:
    assert ask(chains("require all"), WEB, "TXT").rcode() == dns.rcode.REFUSED
    assert ask(chains("require none"), WEB, "TXT").rcode() == dns.rcode.NOERROR
    assert ask(chains("require_opcode QUERY"), WEB, "TXT").rcode() == dns.rcode.REFUSED


def test_zones_outside_of_the_rules_are_not_verified() -> None:
    """The reply is that of an unsigned query."""
    reply = ask(chains("require all", "example.org"), key=WRONG)
    assert (reply.rcode(), reply.had_tsig) == (dns.rcode.NOERROR, False)


@pytest.mark.parametrize(
    ("key", "rcode"), [(None, dns.rcode.REFUSED), (KEY, dns.rcode.NOTIMP), (WRONG, dns.rcode.NOTAUTH)]
)
def test_other_opcodes(key: dns.tsig.Key | None, rcode: int) -> None:
    """Without a plugin that accepts NOTIFY, a permitted one gets NOTIMP."""
    reply = ask(chains("require_opcode NOTIFY"), "cluster.local.", "SOA", key, dns.opcode.NOTIFY)
    assert reply.rcode() == rcode
    assert reply.had_tsig is (key is not None)
    assert ask(chains(), "cluster.local.", "SOA", None, dns.opcode.NOTIFY).rcode() == dns.rcode.NOTIMP


def test_a_malformed_record_is_a_format_error() -> None:
    query = dns.message.make_query(WEB, "A")
    query.use_tsig(KEY)
    packet = query.to_wire()
    reply = dns.message.from_wire(chains().send(packet[:-2] + b"\0\7"))
    assert (reply.rcode(), reply.had_tsig) == (dns.rcode.FORMERR, False)


def test_keys_in_files_change_while_the_server_runs() -> None:
    """A secret that is not base64 verifies nothing, and an empty secret neither."""
    sent = {"/keys": b'key "file.test." {\n secret "QUFBQQ==";\n};\nkey empty {\n secret "=";\n};\n'}
    callbacks = {}
    options = parse(world.block("tsig {\n secrets /keys\n secret bad.test ???\n}", "tsig"))
    plugin = Tsig(
        options,
        world.environment(
            data=lambda _plugin, key: sent.get(key), on_data=lambda _plugin, key, call: callbacks.update({key: call})
        ),
    )
    names = {text: dns.name.from_text(text).to_wire() for text in ("file.test", "bad.test", "empty", "new")}
    assert plugin.tsig_secret(names["file.test"] or b"") == b"AAAA"
    assert plugin.tsig_secret(names["bad.test"] or b"") is None
    assert plugin.tsig_secret(names["empty"] or b"") is None
    callbacks["/keys"](b'key "new" {\n secret "QUFBQQ==";\n};\n')
    assert plugin.tsig_secret(names["new"] or b"") == b"AAAA"
    assert plugin.tsig_secret(names["file.test"] or b"") is None


def test_rejections_are_logged_at_level_debug(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="svcdns"):
        ask(chains(), key=WRONG)
        ask(chains("require A"))
    lines = [record.getMessage() for record in caplog.records]
    assert "TSIG validation failed: A bad signature" in lines
    assert "rejecting 'A' request without TSIG" in lines


def test_a_key_in_other_letters() -> None:
    assert ask(chains(), key=dns.tsig.Key("KEY.Test.", SECRET)).rcode() == dns.rcode.NOERROR
