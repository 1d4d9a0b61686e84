"""The options of `cache` (spec C-cache)."""

from __future__ import annotations

import pytest

from svcdns.plugins.cache import Options
from svcdns.plugins.cache.options import Bounds
from tests.support import world


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param("cache", Options((".",)), id="default"),
        pytest.param("cache 30", Options((".",), Bounds(10000, 30), Bounds(10000, 30)), id="ttl for both"),
        pytest.param("cache example.org", Options(("example.org.",)), id="zones"),
        pytest.param("cache 30 a.b c.d", Options(("a.b.", "c.d."), Bounds(10000, 30), Bounds(10000, 30)), id="ttl and zones"),
        pytest.param("cache {\n success 5000 60 10\n}", Options((".",), Bounds(5000, 60, 10)), id="success"),
        pytest.param("cache 30 {\n denial 500\n}", Options((".",), Bounds(10000, 30), Bounds(500, 30)), id="denial"),
        pytest.param("cache {\n servfail 0\n keepttl\n}", Options((".",), servfail=0.0, keepttl=True), id="servfail, keepttl"),
        pytest.param("cache {\n disable success\n}", Options((".",), no_success=(".",)), id="disable all"),
        pytest.param("cache {\n disable denial a.b\n}", Options((".",), no_denial=("a.b.",)), id="disable a zone"),
    ],
)
def test_reads(text: str, read: Options) -> None:
    """Each option does what it says."""
    assert world.options("cache", text) == read


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("cache 0", "2:7 0 is out of range", id="ttl"),
        pytest.param("cache {\n success 0\n}", "3:10 0 is out of range", id="capacity"),
        pytest.param("cache {\n servfail 6m\n}", "3:11 servfail '6m' is out of range; 0s to 5m was expected", id="servfail"),
        pytest.param("cache {\n disable all\n}", "3:10 'all' is unknown; one of success, denial was expected", id="disable"),
        pytest.param("cache {\n prefetch 5\n}", "3:2 option 'prefetch' of cache is not built yet", id="not built"),
        pytest.param("cache {\n sucess 5\n}", "3:2 unknown property 'sucess' (did you mean 'success'?)", id="unknown"),
        pytest.param("cache\ncache", "3:1 plugin/cache: this plugin can only be used once", id="twice"),
    ],
)
def test_rejects(text: str, error: str) -> None:
    """The word at fault is named."""
    assert world.rejection("cache", text).startswith(error)
