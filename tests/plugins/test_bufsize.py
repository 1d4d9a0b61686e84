"""The plugin *bufsize*."""

from __future__ import annotations

import pytest

from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.bufsize import Bufsize, Options
from svcdns.wire.record import Edns
from tests.support import world


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        pytest.param(
            Edns(4096, dnssec_ok=True, options=((3, b""),)),
            Edns(1232, dnssec_ok=True, options=((3, b""),)),
            id="lowered",
        ),
        pytest.param(Edns(1232), Edns(1232), id="at the bound"),
        pytest.param(Edns(512), Edns(512), id="never raised"),
        pytest.param(None, None, id="without EDNS"),
    ],
)
def test_lowers_the_size(asked: Edns | None, seen: Edns | None) -> None:
    """The next plugins and the server core get the lowered UDP size."""
    query = world.query("a.", edns=asked)
    found: list[Edns | None] = []

    def follow(passed: Query) -> Answer:
        found.append(passed.edns)
        return Reply()

    Bufsize(Options(), world.environment()).handle(query, follow)
    assert (found, query.edns) == ([seen], seen)


def test_options() -> None:
    """The default is 1232. The range is from 512 to 4096 octets."""
    assert world.options("bufsize", "bufsize") == Options(1232)
    assert world.options("bufsize", "bufsize 512") == Options(512)
    assert world.rejection("bufsize", "bufsize 511").startswith("2:9 511 is out of range")
    assert world.rejection("bufsize", "bufsize 4097").startswith("2:9 4097 is out of range")
    assert world.rejection("bufsize", "bufsize 1 2").startswith("2:11 Wrong argument count")
