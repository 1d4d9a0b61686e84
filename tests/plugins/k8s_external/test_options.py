"""The options of *k8s_external*."""

from __future__ import annotations

import pytest

from svcdns.plugins.k8s_external import Options
from tests.support.world import options, rejection


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("k8s_external", Options(("example.org.",)), id="nothing: the block's zones"),
        pytest.param("k8s_external Ext.Test 192.0.2.0/24", Options(("ext.test.", "2.0.192.in-addr.arpa.")), id="zones"),
        pytest.param(
            "k8s_external {\n apex Names x\n ttl 90 x\n headless fallthrough\n}",
            Options(
                ("example.org.",),
                "Names",
                90,
                headless=True,
                fallthrough=(".",),
                warnings=(
                    "Corefile:4:13 - 'x' behind 'apex' is ignored",
                    "Corefile:5:9 - 'x' behind 'ttl' is ignored",
                ),
            ),
            id="all options; some ignore further words, as by CoreDNS",
        ),
        pytest.param(
            "k8s_external {\n fallthrough a b\n}",
            Options(("example.org.",), fallthrough=("a.", "b.")),
            id="fallthrough",
        ),
        pytest.param(
            "k8s_external a {\n ttl 7\n}\nk8s_external b",
            Options(("b.",), ttl=7),
            id="several: the last zones, all options",
        ),
    ],
)
def test_lines(text: str, expected: Options) -> None:
    assert options("k8s_external", "kubernetes\n" + text, zones="example.org") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "forward . 192.0.2.1\nk8s_external",
            "3:1 plugin/k8s_external: kubernetes plugin not loaded: the server block has no 'kubernetes'",
            id="no kubernetes",
        ),
        pytest.param(
            "kubernetes\nk8s_external {\n ttl\n}",
            "4:2 Wrong argument count or unexpected line ending after 'ttl'",
            id="no ttl",
        ),
        pytest.param(
            "kubernetes\nk8s_external {\n ttl 3601\n}", "4:6 3601 is out of range; 0 to 3600 was expected", id="ttl"
        ),
        pytest.param("kubernetes\nk8s_external {\n ttl x\n}", "4:6 'x' is not a whole number", id="ttl text"),
        pytest.param(
            "kubernetes\nk8s_external {\n apex\n}",
            "4:2 Wrong argument count or unexpected line ending after 'apex'",
            id="apex",
        ),
        pytest.param(
            "kubernetes\nk8s_external {\n apex a..b\n}",
            "4:7 'a..b' is not a domain name: label of 0 octets; 1 to 63 are allowed",
            id="apex is no name",
        ),
        pytest.param(
            "kubernetes\nk8s_external {\n headles\n}",
            "4:2 unknown property 'headles' (did you mean 'headless'?)",
            id="unknown",
        ),
    ],
)
def test_rejected_directives(text: str, message: str) -> None:
    assert rejection("k8s_external", text) == message


def test_words_that_are_no_zones_are_ignored_with_a_warning() -> None:
    """As in CoreDNS, the server starts even if no zone is left."""
    made = options("k8s_external", "kubernetes\nk8s_external a..b")
    assert made.zones == ()
    assert [line.partition(" - ")[2] for line in made.warnings] == [
        "'a..b' is not a zone and is ignored; no zone is left"
    ]
