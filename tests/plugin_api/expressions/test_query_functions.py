"""Functions of expressions that return properties of a query (docs/behaviour/plugins.md#expressions)."""

from __future__ import annotations

from typing import Any

import pytest

from svcdns.plugin_api.expressions import FUNCTIONS, EvaluationError, compile_expression, query_functions
from svcdns.plugin_api.query import Client
from tests.support import world

CLIENT6 = Client("fe80::1%eth0", 1234, "fe80::2", 5353, "tcp", 2)


@pytest.mark.parametrize(
    ("text", "value", "value6"),
    [
        ("type()", "AAAA", "AAAA"), ("name()", "a.b.", "a.b."), ("class()", "IN", "IN"), ("proto()", "udp", "tcp"), ("size()", 40, 40),
        ("client_ip()", "192.0.2.1", "fe80::1%eth0"), ("port()", "40000", "1234"), ("id()", 7, 7), ("opcode()", 0, 0),
        ("do()", True, False),
        ("bufsize()", 1232, 65535), ("server_ip()", "192.0.2.53", "fe80::2"), ("server_port()", "53", "5353"),
        ("incidr(client_ip(), '192.0.2.77/24')", True, False), ("incidr(client_ip(), 'fe80::/10')", False, True),
        ("metadata('a/b')", "", ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_query_functions(text: str, value: Any, value6: Any) -> None:
    """The queries come over UDP with EDNS, and over TCP without EDNS."""
    expression = compile_expression(text, FUNCTIONS)
    query = world.query("A.b.", "AAAA", ident=7, edns=world.edns(dnssec_ok=True))
    assert expression.run(query_functions(query)) == value
    assert expression.run(query_functions(world.query("A.b.", "AAAA", ident=7, client=CLIENT6))) == value6


def test_bufsize_is_at_least_512() -> None:
    for edns in (None, world.edns(100)):
        assert compile_expression("bufsize()", FUNCTIONS).run(query_functions(world.query("a.", edns=edns))) == 512


@pytest.mark.parametrize("text", ["incidr('x', '10.0.0.0/8')", "incidr('10.0.0.1', 'x')", "incidr('a', 'b')"])
def test_invalid_arguments(text: str) -> None:
    with pytest.raises(EvaluationError):
        compile_expression(text, FUNCTIONS).run(query_functions(world.query("a.")))
