"""The options of `azure` (docs/plugins/azure.md)."""

from __future__ import annotations

import pytest

from svcdns.plugins.azure.options import CLOUDS, Source
from svcdns.zones.hosted_zones import HostedZone, Options
from tests.support import world

ZONE = HostedZone("example.org.", "public/group/example.org")
PRIVATE = HostedZone("example.net.", "private/group/example.net")


def options(text: str) -> Options:
    found: Options = world.options("azure", text)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("azure", Source(()), id="no zones"),
        pytest.param("azure group:example.org.", Source((ZONE,)), id="a zone"),
        pytest.param(
            "azure group:example.org {\n tenant t\n client c\n secret s\n subscription n\n}",
            Source((ZONE,), tenant="t", client="c", secret="s", subscription="n"),
            id="an account",
        ),
        pytest.param(
            "azure group:example.org {\n tenant t\n}\nazure group:example.net {\n access private\n client c\n}",
            Source((ZONE, PRIVATE), tenant="t", client="c"),
            id="directives have one account, and each its access",
        ),
        pytest.param(
            "azure {\n environment AzureChinaCloud\n}", Source((), cloud=CLOUDS["AZURECHINACLOUD"]), id="a cloud"
        ),
    ],
)
def test_reads_options(text: str, expected: Source) -> None:
    assert [group.source for group in options(text).groups] == [expected]


def test_the_last_fallthrough_counts() -> None:
    found = options("azure {\n fallthrough\n}\nazure {\n fallthrough a.test\n}")
    assert [group.fallthrough for group in found.groups] == [("a.test.",)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("azure example.org", '2:7 invalid resource group/zone: "example.org"', id="no group"),
        pytest.param("azure group:", '2:7 invalid resource group/zone: "group:"', id="no zone"),
        pytest.param("azure g:a..b", '2:7 invalid zone "g:a..b"', id="no name"),
        pytest.param("azure g:a\nazure g:a", '3:7 conflicting zone: "g:a"', id="twice"),
        pytest.param(
            "azure {\n access secret\n}",
            "3:9 invalid access value: can be public/private, found: secret",
            id="access",
        ),
        pytest.param(
            "azure {\n environment AzureUSGovernmentClod\n}",
            "3:14 cannot set azure environment: autorest/azure: There is no cloud environment matching the name "
            "'AZUREUSGOVERNMENTCLOD' (did you mean 'AZUREUSGOVERNMENTCLOUD'?)",
            id="no such cloud",
        ),
        pytest.param("azure {\n upstream x\n}", "3:2 unknown property 'upstream'", id="unknown"),
        pytest.param(
            "azure {\n tenant\n}", "3:2 Wrong argument count or unexpected line ending after 'tenant'", id="no tenant"
        ),
    ],
)
def test_rejects(text: str, expected: str) -> None:
    assert world.rejection("azure", text) == expected


def test_the_text_of_options_has_no_secret() -> None:
    assert "SEKRET" not in repr(options("azure g:a. {\n secret SEKRET\n}"))
