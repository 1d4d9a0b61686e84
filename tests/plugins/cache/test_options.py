"""The options of *cache* (docs/behaviour/plugins.md#cache)."""

from __future__ import annotations

import pytest

from svcdns.plugins.cache import Options
from svcdns.plugins.cache.options import MAX_NUMBER, Bounds, Prefetch, Stale
from tests.support import world


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param("cache", Options((".",)), id="default"),
        pytest.param(
            "cache 9223372036854775807",
            Options((".",), Bounds(10000, MAX_NUMBER), Bounds(10000, MAX_NUMBER)),
            id="largest number of Go",
        ),
        pytest.param("cache 30", Options((".",), Bounds(10000, 30), Bounds(10000, 30)), id="ttl for both"),
        pytest.param("cache example.org", Options(("example.org.",)), id="zones"),
        pytest.param(
            "cache 30 a.b c.d", Options(("a.b.", "c.d."), Bounds(10000, 30), Bounds(10000, 30)), id="ttl and zones"
        ),
        pytest.param("cache {\n success 5000 60 10\n}", Options((".",), Bounds(5000, 60, 10)), id="success"),
        pytest.param("cache 30 {\n denial 500\n}", Options((".",), Bounds(10000, 30), Bounds(500, 30)), id="denial"),
        pytest.param(
            "cache {\n servfail 0\n keepttl\n}", Options((".",), servfail=0.0, keepttl=True), id="servfail, keepttl"
        ),
        pytest.param("cache {\n prefetch 0\n}", Options((".",), prefetch=Prefetch(0)), id="no prefetch"),
        pytest.param("cache {\n prefetch 5 2m 90%\n}", Options((".",), prefetch=Prefetch(5, 120.0, 90)), id="prefetch"),
        pytest.param("cache {\n serve_stale\n}", Options((".",), stale=Stale(3600.0)), id="stale"),
        pytest.param(
            "cache {\n serve_stale 30m Immediate 5s 10s\n}",
            Options((".",), stale=Stale(1800.0, ttl=5, recheck=10.0)),
            id="immediate",
        ),
        pytest.param(
            "cache {\n serve_stale 30m verify 200ms 5s 10s\n}",
            Options((".",), stale=Stale(1800.0, True, 0.2, 5, 10.0)),
            id="verify",
        ),
        pytest.param(
            "cache {\n serve_stale_policy Prefer_Positive\n serve_stale 1m\n}",
            Options((".",), stale=Stale(60.0, prefer_positive=True)),
            id="policy",
        ),
        pytest.param(
            "cache {\n confirm_denials\n}",
            Options((".",), confirm_after=3600.0),
            id="denials are confirmed after an hour",
        ),
        pytest.param("cache {\n confirm_denials 10m\n}", Options((".",), confirm_after=600.0), id="or another time"),
        pytest.param("cache {\n disable success\n}", Options((".",), no_success=(".",)), id="disable all"),
        pytest.param("cache {\n disable denial a.b\n}", Options((".",), no_denial=("a.b.",)), id="disable a zone"),
    ],
)
def test_reads(text: str, read: Options) -> None:
    assert world.options("cache", text) == read


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param(
            "cache {\n confirm_denials -1s\n}",
            "3:18 '-1s' is out of range; at least 0 was expected",
            id="confirm_denials",
        ),
        pytest.param("cache 0", "2:7 0 is out of range", id="ttl"),
        pytest.param("cache {\n success x\n}", "3:10 'x' is not a whole number", id="capacity"),
        pytest.param(
            "cache {\n servfail 6m\n}", "3:11 servfail '6m' is out of range; 0s to 5m was expected", id="servfail"
        ),
        pytest.param(
            "cache {\n disable all\n}", "3:10 'all' is unknown; one of success, denial was expected", id="disable"
        ),
        pytest.param("cache {\n prefetch -1\n}", "3:11 -1 is out of range", id="prefetch"),
        pytest.param(
            "cache {\n prefetch 5 1m 9%\n}", "3:16 '9%' is not a percentage; 10% to 90% was expected", id="percentage"
        ),
        pytest.param("cache {\n prefetch 5 1m 20\n}", "3:16 '20' is not a percentage", id="no percent sign"),
        pytest.param("cache {\n prefetch 5 1m 20% x\n}", "3:20 Wrong argument count", id="too much prefetch"),
        pytest.param("cache {\n serve_stale -1s\n}", "3:14 '-1s' is out of range; at least 0 was expected", id="stale"),
        pytest.param(
            "cache {\n serve_stale 1h later\n}", "3:17 'later' is unknown; one of immediate, verify", id="mode"
        ),
        pytest.param(
            "cache {\n serve_stale 1h immediate 1500ms\n}", "3:27 '1500ms' is not a TTL; whole seconds", id="stale ttl"
        ),
        pytest.param(
            "cache {\n serve_stale 1h immediate 0 6m\n}", "3:29 '6m' is out of range; 0s to 300s", id="recheck"
        ),
        pytest.param(
            "cache {\n serve_stale 1h immediate 0 1m 5\n}", "3:32 '5' is one word too many", id="too many for immediate"
        ),
        pytest.param("cache {\n serve_stale 1h verify 1s 0 1m 5\n}", "3:32 Wrong argument count", id="too many"),
        pytest.param(
            "cache {\n serve_stale_policy prefer_positive\n}",
            "3:2 'serve_stale_policy' needs 'serve_stale'",
            id="policy alone",
        ),
        pytest.param(
            "cache {\n serve_stale\n serve_stale_policy any\n}", "4:21 'any' is unknown; prefer_positive", id="policy"
        ),
        pytest.param(
            "cache {\n serve_stale\n serve_stale_policy prefer_positive\n serve_stale_policy prefer_positive\n}",
            "5:2 'serve_stale_policy' may stand once",
            id="two policies",
        ),
        pytest.param("cache {\n sucess 5\n}", "3:2 unknown property 'sucess' (did you mean 'success'?)", id="unknown"),
        pytest.param("cache\ncache", "3:1 plugin/cache: this plugin can only be used once", id="twice"),
    ],
)
def test_rejects(text: str, error: str) -> None:
    assert world.rejection("cache", text).startswith(error)
