"""The options of `secondary` (docs/behaviour/plugins.md#secondary)."""

from __future__ import annotations

import pytest

from svcdns.plugins.secondary import Options
from svcdns.plugins.secondary.options import Rule
from tests.support import world


def test_reads() -> None:
    """A directive has zones and primary servers; `transfer from` adds servers, and `fallthrough` is for all."""
    text = "secondary {\n transfer from 10.0.1.1 [2001:db8::1]:5300\n transfer from 2001:db8::2\n fallthrough a.org\n}"
    text += "\nsecondary b.org {\n transfer from 10.0.1.2:54\n}"
    assert world.options("secondary", text, zones="a.org") == Options(
        (
            Rule(("a.org.",), (("10.0.1.1", 53), ("2001:db8::1", 5300), ("2001:db8::2", 53))),
            Rule(("b.org.",), (("10.0.1.2", 54),)),
        ),
        ("a.org.",),
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("secondary", "2:1 secondary zones require a transfer from property", id="no primary server"),
        pytest.param("secondary {\n transfer\n}", "3:2 Wrong argument count", id="nothing"),
        pytest.param("secondary {\n transfer from\n}", "3:11 Wrong argument count", id="no address"),
        pytest.param("secondary {\n transfer to 10.0.0.1\n}", "3:11 unknown property 'to'", id="to"),
        pytest.param("secondary {\n transfer from *\n}", "3:16 can't use '*' in transfer from", id="all"),
        pytest.param("secondary {\n transfer from ns.org\n}", "3:16 'ns.org' is not an IP address", id="name"),
        pytest.param("secondary {\n transfer from 1.1.1.1:0\n}", "3:16 '0' is not a port", id="port"),
        pytest.param("secondary {\n catalog a..b\n}", "3:10 'a..b' is not a zone", id="member zones"),
        pytest.param("secondary {\n tranfer from 1.1.1.1\n}", "3:2 unknown property 'tranfer' (did you", id="unknown"),
    ],
)
def test_rejects(text: str, error: str) -> None:
    """Each invalid directive is an error with the position of the word at fault."""
    assert world.rejection("secondary", text).startswith(error)


def test_catalogs() -> None:
    """A catalog may restrict the zones of its members."""
    text = "secondary {\n transfer from 10.0.1.1\n catalog\n}\nsecondary b.org {\n transfer from 10.0.1.1\n catalog A.org\n}"
    assert [rule.members for rule in world.options("secondary", text).rules] == [(), ("a.org.",)]
