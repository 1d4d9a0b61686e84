"""The rule `edns0` of *rewrite*: options of the query and of the reply."""

from __future__ import annotations

from typing import Any

import pytest

from svcdns.plugin_api.query import Answer, Client, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, CacheScope, Reply
from svcdns.plugins.rewrite import PLUGIN, parse
from svcdns.wire.record import Edns
from tests.support import world

CLIENT6 = Client("2001:db8:1:2::3", 1234, "2001:db8::53", 53, "tcp", 2)


def run(
    text: str, edns: Edns | None = None, reply: Reply | None = None, **fields: Any
) -> tuple[Query, Edns | None, Reply]:
    """Applies rules. Returns the client's query afterwards, the EDNS that the chain gets, and the reply."""
    block = world.block("\n".join(f"rewrite {line}" for line in text.split("; ")), "rewrite")
    query = world.query("A.b.", edns=edns, **fields)
    seen: list[Edns | None] = []

    def follow(passed: Query) -> Answer:
        seen.append(passed.edns)
        return reply or Reply(lifetime=UNTIL_CHANGED)

    done = world.now(PLUGIN(parse(block), world.environment()).handle(query, follow))
    return query, seen[0], done


def options(*found: tuple[int, bytes], size: int = 512) -> Edns:
    """Returns an OPT record with these options."""
    return Edns(size, options=found)


@pytest.mark.parametrize(
    ("rule", "given", "seen"),
    [
        pytest.param("local set 9 x", options((9, b"a")), options((9, b"x")), id="set replaces"),
        pytest.param("local set 9 x", options((8, b"a")), options((8, b"a"), (9, b"x")), id="set adds"),
        pytest.param("local replace 9 x", options((9, b"a"), (8, b"b")), options((9, b"x"), (8, b"b")), id="replace"),
        pytest.param("local replace 9 x", options(), options(), id="nothing to replace"),
        pytest.param("local append 9 x", options(), options((9, b"x")), id="append"),
        pytest.param("local append 9 x", options((9, b"a")), options((9, b"a"), (9, b"x")), id="append another"),
        pytest.param(
            "local append 9 {qtype}", options((9, b"a")), options((9, b"a")), id="append of a variable, option exists"
        ),
        pytest.param("local unset 9", options((9, b"a"), (8, b"b"), (9, b"c")), options((8, b"b")), id="unset"),
        pytest.param("local set 9 {a/b}", None, None, id="a label without data"),
        pytest.param("local set 9 x", None, options((9, b"x"), size=4096), id="a new OPT record"),
        pytest.param("local replace 9 x", None, options(size=4096), id="a new OPT record, the rule does not apply"),
        pytest.param("nsid set", options((3, b"a")), options((3, b"")), id="nsid"),
        pytest.param("subnet set 20 56", options(), options((8, b"\0\1\x14\0\xc0\0\0")), id="subnet of IPv4"),
        pytest.param(
            "subnet append 24 56", options((8, b"a")), options((8, b"a")), id="append a subnet, option exists"
        ),
    ],
)
def test_actions(rule: str, given: Edns | None, seen: Edns | None) -> None:
    """The rules change the EDNS options that the next plugins get."""
    query, passed, _ = run(f"edns0 {rule}", given)
    assert (passed, query.edns) == (seen, seen)


@pytest.mark.parametrize(
    ("name", "data", "data6", "per_client"),
    [
        pytest.param("qname", b"A.b.", b"A.b.", False, id="qname"),
        pytest.param("qtype", b"\0\1", b"\0\1", False, id="qtype"),
        pytest.param(
            "client_ip", bytes((192, 0, 2, 1)), bytes.fromhex("20010db8000100020000000000000003"), True, id="client_ip"
        ),
        pytest.param("client_port", b"\x9c\x40", b"\x04\xd2", True, id="client_port"),
        pytest.param("protocol", b"udp", b"tcp", False, id="protocol"),
        pytest.param(
            "server_ip", bytes((192, 0, 2, 53)), bytes.fromhex("20010db8000000000000000000000053"), True, id="server_ip"
        ),
        pytest.param("server_port", b"\0\x35", b"\0\x35", False, id="server_port"),
    ],
)
def test_variables(name: str, data: bytes, data6: bytes, per_client: bool) -> None:
    """Variables are inserted in wire format. If a variable depends on the client, the reply is for this client only."""
    rule = f"edns0 local set 9 {{{name}}}"
    _, seen, reply = run(rule, options())
    assert seen == options((9, data))
    assert reply.scope == (CacheScope.CLIENT if per_client else CacheScope.SHARED)
    assert run(rule, options(), client=CLIENT6)[1] == options((9, data6))


@pytest.mark.parametrize("rule", ["local set 9 x", "local replace 9 x"])
@pytest.mark.parametrize(("given", "added"), [(None, True), (Edns(512), False)], ids=["no OPT", "OPT"])
def test_an_added_opt_record_is_marked_in_the_query(rule: str, given: Edns | None, added: bool) -> None:
    """If an upstream does not know EDNS, *forward* leaves out an OPT record that *rewrite* added."""
    seen: list[bool] = []

    def follow(passed: Query) -> Answer:
        seen.append(passed.edns_added)
        return Reply(lifetime=UNTIL_CHANGED)

    block = world.block(f"rewrite edns0 {rule}", "rewrite")
    world.now(PLUGIN(parse(block), world.environment()).handle(world.query("A.b.", edns=given), follow))
    assert seen == [added]


def test_the_subnet_of_an_ipv6_client() -> None:
    """The client-subnet option has the octets of the IPv6 prefix. The reply is for this client only."""
    _, seen, reply = run("edns0 subnet set 24 60", options(), client=CLIENT6)
    assert seen == options((8, b"\0\2\x3c\0" + bytes.fromhex("20010db800010000")))
    assert reply.scope is CacheScope.CLIENT


@pytest.mark.parametrize(
    ("rule", "given", "mirrored"),
    [
        pytest.param("local set 9 x revert", options((9, b"a")), options((9, b"a")), id="replaced"),
        pytest.param("local set 9 x revert", options(), options(), id="added"),
        pytest.param("nsid set revert", None, options(size=4096), id="the new OPT record stays"),
        pytest.param("local unset 9", options((9, b"a")), options(), id="unset stays"),
    ],
)
def test_revert(rule: str, given: Edns | None, mirrored: Edns) -> None:
    """With `revert`, the option is restored in the reply's OPT record, and in the client's options."""
    echo = options((9, b"x"), (3, b""))
    query, seen, reply = run(f"edns0 {rule}", given, Reply(edns=echo))
    assert query.edns == mirrored
    if "revert" in rule:
        assert seen != mirrored
        assert reply.edns != echo


def test_rules_are_undone_in_reverse_order() -> None:
    query, seen, _ = run("continue edns0 local set 9 x revert; edns0 local set 9 y revert", options((9, b"a")))
    assert (seen, query.edns) == (options((9, b"y")), options((9, b"a")))


def test_codes_of_local_rules_are_echoed() -> None:
    block = world.block(
        "rewrite edns0 local set 0xffee x\nrewrite edns0 subnet set 24 56\nrewrite edns0 local unset 9", "rewrite"
    )
    assert PLUGIN(parse(block), world.environment()).echoed_options == {0xFFEE, 9}
