"""The options of `clouddns` (docs/plugins/clouddns.md)."""

from __future__ import annotations

import pytest

from svcdns.plugins.clouddns.options import Source
from svcdns.zones.hosted_zones import HostedZone, Options
from tests.support import world

ZONE = HostedZone("example.org.", "project:zone")


def options(text: str) -> Options:
    found: Options = world.options("clouddns", text)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("clouddns", Source(()), id="no zones"),
        pytest.param("clouddns Example.org:project:zone", Source((ZONE,)), id="a zone"),
        pytest.param(
            "clouddns example.org.:project:zone {\n credentials file\n upstream x\n}",
            Source((ZONE,), credentials="file"),
            id="credentials",
        ),
    ],
)
def test_reads_options(text: str, expected: Source) -> None:
    assert [group.source for group in options(text).groups] == [expected]


def test_zones_are_fetched_every_minute() -> None:
    assert options("clouddns example.org.:project:zone").groups[0].source.refresh == 60.0


def test_fallthrough() -> None:
    assert options("clouddns {\n fallthrough a.test\n}").groups[0].fallthrough == ("a.test.",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("clouddns a.:p", '2:10 invalid zone "a.:p"', id="two parts"),
        pytest.param("clouddns a.::z", '2:10 invalid zone "a.::z"', id="no project"),
        pytest.param("clouddns :p:z", '2:10 invalid zone ":p:z"', id="no name"),
        pytest.param("clouddns a.:p:z a.:p:z", '2:17 conflict zone "a.:p:z"', id="twice"),
        pytest.param("clouddns {\n wat\n}", "3:2 unknown property 'wat'", id="unknown"),
        pytest.param(
            "clouddns {\n credentials\n}",
            "3:2 Wrong argument count or unexpected line ending after 'credentials'",
            id="no file",
        ),
    ],
)
def test_rejects(text: str, expected: str) -> None:
    assert world.rejection("clouddns", text) == expected
