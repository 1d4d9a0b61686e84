"""The options of *transfer*."""

from __future__ import annotations

import pytest

from svcdns.plugins.transfer import Options
from svcdns.plugins.transfer.options import Rule
from tests.support.world import options, rejection


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        pytest.param(
            "transfer {\n to *\n}", Rule(("example.org.",), (), any_client=True), id="the block's zones, any client"
        ),
        pytest.param(
            "transfer A.Example b {\n to 192.0.2.1\n}",
            Rule(("a.example.", "b."), (("192.0.2.1", 53),)),
            id="zones, port 53",
        ),
        pytest.param(
            "transfer {\n to 192.0.2.1:5353 2001:DB8::1\n to [2001:db8::2]:54 * fe80::1%eth0\n}",
            Rule(
                ("example.org.",),
                (("192.0.2.1", 5353), ("2001:db8::1", 53), ("2001:db8::2", 54), ("fe80::1", 53)),
                any_client=True,
            ),
            id="lines add up",
        ),
        pytest.param(
            "transfer {\n source 192.0.2.9\n to *\n}",
            Rule(("example.org.",), (), any_client=True, source="192.0.2.9"),
            id="source",
        ),
    ],
)
def test_lines(text: str, rule: Rule) -> None:
    assert options("transfer", text, zones="example.org") == Options((rule,))


def test_several_directives() -> None:
    found = options("transfer", "transfer a {\n to *\n}\ntransfer b {\n to *\n}")
    assert [rule.zones for rule in found.rules] == [("a.",), ("b.",)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("transfer", "2:1 'to' is required", id="nothing"),
        pytest.param("transfer {\n source 192.0.2.1\n}", "2:1 'to' is required", id="source alone"),
        pytest.param(
            "transfer {\n to\n}",
            "3:2 Wrong argument count or unexpected line ending after 'to'",
            id="to without addresses",
        ),
        pytest.param("transfer {\n to ns.example\n}", "3:5 'ns.example' is not an IP address", id="a name"),
        pytest.param("transfer {\n to 192.0.2.1:x\n}", "3:5 'x' is not a port; 0 to 65535 was expected", id="port"),
        pytest.param(
            "transfer {\n to *\n source\n}",
            "4:2 Wrong argument count or unexpected line ending after 'source'",
            id="source",
        ),
        pytest.param("transfer {\n to *\n source 1.2\n}", "4:9 '1.2' is not an IP address", id="source is no address"),
        pytest.param(
            "transfer {\n to *\n source 192.0.2.1\n source 192.0.2.1\n}",
            "5:2 source is given already",
            id="two sources",
        ),
        pytest.param("transfer {\n too *\n}", "3:2 unknown property 'too' (did you mean 'to'?)", id="unknown"),
    ],
)
def test_rejected_directives(text: str, message: str) -> None:
    assert rejection("transfer", text) == message
