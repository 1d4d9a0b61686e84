"""The options of `geoip` (docs/plugins/geoip.md)."""

from __future__ import annotations

import pytest

from svcdns.plugins.geoip import Options
from tests.support import world


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("geoip /db.mmdb", Options("/db.mmdb"), id="default"),
        pytest.param("geoip /db.mmdb {\n edns-subnet\n}", Options("/db.mmdb", edns_subnet=True), id="edns-subnet"),
    ],
)
def test_reads(text: str, expected: Options) -> None:
    """The path is not relative to the folder of *root*, as in CoreDNS."""
    assert world.options("geoip", text, root="/etc") == expected


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("geoip", "2:1 Wrong argument count", id="no file"),
        pytest.param("geoip a b", "2:9 Wrong argument count", id="two files"),
        pytest.param("geoip a\ngeoip b", "3:1 configuring multiple databases is not supported", id="twice"),
        pytest.param("geoip a {\n languages en\n}", "3:2 unknown property 'languages'", id="unknown option"),
    ],
)
def test_rejects(text: str, error: str) -> None:
    """Each invalid directive is an error with the position of the word at fault."""
    assert world.rejection("geoip", text).startswith(error)
