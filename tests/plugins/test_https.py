"""The plugin https: limits of DNS over HTTPS."""

from __future__ import annotations

import pytest

from svcdns.corefile.errors import CorefileError
from svcdns.plugins.https import Https, Options, parse
from tests.support import world


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("https", None, id="default"),
        pytest.param("https {\n max_connections 5\n}", 5, id="number"),
        pytest.param("https {\n max_connections 0\n}", 0, id="no limit"),
    ],
)
def test_options(text: str, found: int | None) -> None:
    options = parse(world.block(text, "https"))
    assert options == Options(found)
    limits = Https.settings(options).limits
    assert limits is not None
    assert (limits.transport, limits.max_connections) == ("https", found)


@pytest.mark.parametrize(
    "text",
    [
        "https 5",
        "https {\n max_connections\n}",
        "https {\n max_connections -1\n}",
        "https {\n max_connections 1\n max_connections 2\n}",
        "https {\n max_streams 1\n}",
    ],
)
def test_errors(text: str) -> None:
    with pytest.raises(CorefileError):
        parse(world.block(text, "https"))
