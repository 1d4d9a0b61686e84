"""The options of `proxyproto` (docs/plugins/proxyproto.md)."""

from __future__ import annotations

import pytest

from svcdns.plugin_api.networks import Network
from svcdns.plugin_api.settings import ProxyPolicy, ProxyProtocol
from svcdns.plugins.proxyproto import ProxyProto
from tests.support import world

NETWORK = Network.from_text("10.0.0.0/8")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("proxyproto", ProxyProtocol(), id="default"),
        pytest.param("proxyproto {\n allow 10.0.0.0/8\n}", ProxyProtocol((NETWORK,), ProxyPolicy.IGNORE), id="allow"),
        pytest.param(
            "proxyproto {\n allow 10.1.2.3/8\n default REJECT\n}",
            ProxyProtocol((NETWORK,), ProxyPolicy.REJECT),
            id="both",
        ),
        pytest.param("proxyproto {\n default skip\n}", ProxyProtocol((), ProxyPolicy.SKIP), id="skip"),
        pytest.param("proxyproto {\n allow\n}", ProxyProtocol(), id="no network"),
        pytest.param("proxyproto {\n udp_session_tracking 28s\n}", ProxyProtocol(session_seconds=28.0), id="sessions"),
        pytest.param(
            "proxyproto {\n udp_session_tracking 28s 20\n}",
            ProxyProtocol(session_seconds=28.0, sessions=20),
            id="number of sessions",
        ),
        pytest.param("proxyproto {\n udp_session_tracking -1s\n}", ProxyProtocol(), id="no sessions"),
    ],
)
def test_reads(text: str, expected: ProxyProtocol) -> None:
    """Without `allow`, the headers of all peers are used. With `allow`, the headers of other peers are ignored."""
    assert ProxyProto.settings(world.options("proxyproto", text)).proxy == expected


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("proxyproto x", "2:12 Wrong argument count", id="argument"),
        pytest.param("proxyproto {\n allow x/8\n}", "3:8 plugin/proxyproto: x/8: invalid CIDR address: x/8", id="CIDR"),
        pytest.param(
            "proxyproto {\n allow 10.0.0.1\n}", "3:8 plugin/proxyproto: 10.0.0.1: invalid CIDR", id="no prefix"
        ),
        pytest.param("proxyproto {\n default\n}", "3:2 Wrong argument count", id="no policy"),
        pytest.param(
            "proxyproto {\n default x\n}", "3:10 'x' is unknown; one of use, ignore, reject, skip", id="policy"
        ),
        pytest.param(
            "proxyproto {\n udp_session_tracking x\n}",
            '3:23 plugin/proxyproto: udp_session_tracking: invalid duration "x"',
            id="duration",
        ),
        pytest.param(
            "proxyproto {\n udp_session_tracking 1s 0\n}",
            '3:26 plugin/proxyproto: udp_session_tracking: invalid max sessions "0": must be a positive integer',
            id="no sessions",
        ),
        pytest.param("proxyproto {\n udp_session_tracking 1s 1 1\n}", "3:28 Wrong argument count", id="three words"),
        pytest.param(
            "proxyproto {\n alow 10.0.0.0/8\n}", "3:2 unknown property 'alow' (did you mean 'allow'?)", id="x"
        ),
    ],
)
def test_rejects(text: str, error: str) -> None:
    """Each invalid directive is an error with the position of the word at fault."""
    assert world.rejection("proxyproto", text).startswith(error)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param("", "because there is no 'allow'", id="no allow"),
        pytest.param("allow 10.0.0.0/8", "", id="allow"),
        pytest.param("default ignore", "", id="no header is used"),
        pytest.param("allow 10.0.0.0/8\ndefault use", "because 'default use' applies to addresses outside", id="use"),
    ],
)
def test_clients_that_can_choose_their_address_are_a_warning(body: str, expected: str) -> None:
    """The warning names the plugins of the block that decide by the address."""
    (warning, *none) = world.options("proxyproto", f"proxyproto {{\n{body}\n}}").warnings or ("",)
    assert none == []
    assert expected in warning
    text = f"proxyproto {{\n{body}\n}}\nacl {{\n block net 10.0.0.0/8\n}}\nview v"
    warnings = world.options("proxyproto", text).warnings
    assert all(line.endswith("; acl, view in this block decide by that address") for line in warnings)
    assert bool(warnings) == bool(expected)


def test_the_policy_of_a_peer() -> None:
    """Peers in the allowed networks have their headers used; the policy of others is the default."""
    protocol = ProxyProtocol((NETWORK, Network.from_text("2001:db8::/32")), ProxyPolicy.REJECT)
    expected = {"10.1.2.3": "use", "2001:db8::1": "use", "::ffff:10.1.2.3": "use", "192.0.2.1": "reject", "x": "reject"}
    assert {peer: protocol.policy(peer).value for peer in expected} == expected
