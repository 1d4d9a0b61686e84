"""The options of *dnssec* (docs/plugins/dnssec.md)."""

from __future__ import annotations

import pytest

from svcdns.plugins.dnssec import parse
from svcdns.wire import names
from tests.support import world


def test_the_zones_of_the_block_and_the_default_capacity() -> None:
    options = parse(world.block("dnssec", "dnssec", "a.example b.example"))
    assert [names.to_text(zone) for zone in options.zones] == ["a.example.", "b.example."]
    assert (options.keys, options.capacity) == ((), 10000)


def test_zones_and_options() -> None:
    text = "dnssec Example.org 10.0.0.0/8 {\n key file Ka /k/Kb.key\n key file Kc.private\n cache_capacity 100\n}"
    options = parse(world.block(text, "dnssec", root="/root"))
    assert [names.to_text(zone) for zone in options.zones] == ["example.org.", "10.in-addr.arpa."]
    assert [key.base for key in options.keys] == ["/root/Ka", "/k/Kb", "/root/Kc"]
    assert options.capacity == 100


def test_secrets_of_aws() -> None:
    options = parse(
        world.block("dnssec {\n key aws_secretsmanager one two.key\n key file Kc\n}", "dnssec", root="/root")
    )
    assert [(key.base, key.is_secret) for key in options.keys] == [
        ("one", True),
        ("two.key", True),
        ("/root/Kc", False),
    ]


def test_a_capacity_below_one_stores_one() -> None:
    assert parse(world.block("dnssec {\n cache_capacity -5\n}", "dnssec")).capacity == 1


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("dnssec\ndnssec", "3:1 plugin/dnssec: this plugin can only be used once per Server Block"),
        ("dnssec {\n key\n}", "3:2 Wrong argument count or unexpected line ending after 'key'"),
        ("dnssec {\n key file\n}", "3:6 Wrong argument count or unexpected line ending after 'file'"),
        pytest.param(
            "dnssec {\n key fil Ka\n}",
            "3:6 'fil' is unknown; one of file, aws_secretsmanager was expected",
            id="an unknown source",
        ),
        ("dnssec {\n cache_capacity\n}", "3:2 Wrong argument count or unexpected line ending"),
        ("dnssec {\n cache_capacity ten\n}", "3:17 'ten' is not a whole number"),
        ("dnssec {\n keys file Ka\n}", "3:2 unknown property 'keys' (did you mean 'key'?)"),
    ],
)
def test_errors_have_their_position(text: str, error: str) -> None:
    assert world.rejection("dnssec", text).startswith(error)
