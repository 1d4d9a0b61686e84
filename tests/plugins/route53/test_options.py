"""The options of `route53` (docs/plugins/route53.md)."""

from __future__ import annotations

from typing import Any

import pytest

from svcdns.plugins.route53.options import Source
from svcdns.zones.hosted_zones import HostedZone, Options
from tests.support import world

ZONE = HostedZone("example.org.", "Z1")


def options(text: str) -> Options:
    found: Options = world.options("route53", text)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("route53", Source(()), id="no zones"),
        pytest.param("route53 example.org.:Z1", Source((ZONE,)), id="a zone"),
        pytest.param("route53 Example.org:Z1", Source((ZONE,)), id="without the last dot"),
        pytest.param(
            "route53 example.org.:Z1 example.org.:Z2",
            Source((ZONE, HostedZone("example.org.", "Z2"))),
            id="two zones of one name",
        ),
        pytest.param("route53 example.org.:Z1 {\n refresh 90\n}", Source((ZONE,), 90.0), id="seconds"),
        pytest.param("route53 example.org.:Z1 {\n refresh 5m\n}", Source((ZONE,), 300.0), id="minutes"),
        pytest.param(
            "route53 example.org.:Z1 {\n aws_endpoint https://localhost refresh 5m\n}",
            Source((ZONE,), 300.0, endpoint="https://localhost"),
            id="two options on a line",
        ),
        pytest.param(
            "route53 example.org.:Z1 {\n aws_access_key ID SECRET\n upstream 192.0.2.1\n}",
            Source((ZONE,), access_key="ID", secret_key="SECRET"),
            id="keys",
        ),
        pytest.param(
            "route53 example.org.:Z1 {\n credentials default file\n}",
            Source((ZONE,), profile="default", credentials_file="file"),
            id="credentials",
        ),
    ],
)
def test_reads_options(text: str, expected: Source) -> None:
    assert [group.source for group in options(text).groups] == [expected]


def test_directives_of_a_block_are_separate() -> None:
    found = options("route53 example.org.:Z1 {\n fallthrough\n}\nroute53 example.net.:Z2 {\n fallthrough a.test\n}")
    assert [group.fallthrough for group in found.groups] == [(".",), ("a.test.",)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("route53 :", '2:9 invalid zone ":"', id="empty"),
        pytest.param("route53 example.org", '2:9 invalid zone "example.org"', id="no identifier"),
        pytest.param("route53 a..b:Z1", '2:9 invalid zone "a..b:Z1"', id="no name"),
        pytest.param("route53 a.:Z1 a.:Z1", '2:15 conflict zone "a.:Z1"', id="twice"),
        pytest.param(
            "route53 a.:Z1 {\n aws_access_key SECRET\n}",
            "3:2 invalid access key: an ID and a secret key were expected",
            id="half a key is not shown",
        ),
        pytest.param("route53 a.:Z1 {\n wat\n}", "3:2 unknown property 'wat'", id="unknown"),
        pytest.param(
            "route53 a.:Z1 {\n refresh -1m\n}",
            '3:10 refresh interval must be greater than 0: "-1m"',
            id="negative refresh",
        ),
        pytest.param(
            "route53 a.:Z1 {\n refresh foo\n}",
            "3:10 Unable to parse duration: 'foo' is not a duration; "
            "a number with a unit such as 30s, 5m or 300ms was expected",
            id="no duration",
        ),
    ],
)
def test_rejects(text: str, expected: str) -> None:
    assert world.rejection("route53", text) == expected


@pytest.mark.parametrize("option", ["aws_endpoint", "credentials", "refresh"])
def test_an_option_without_its_argument_is_an_error(option: str) -> None:
    assert f"after '{option}'" in world.rejection("route53", f"route53 a.:Z1 {{\n {option}\n}}")


def test_the_text_of_options_has_no_secrets() -> None:
    found: Any = options("route53 example.org.:Z1 {\n aws_access_key AKIAID SEKRET\n}")
    assert "AKIAID" not in repr(found)
    assert "SEKRET" not in repr(found)
    assert "AKIAID" not in found.groups[0].source.key(ZONE)
