"""The NSEC records that deny names and types, as CoreDNS makes them."""

from __future__ import annotations

import pytest

from svcdns.plugin_api.reply_type import MessageType
from svcdns.plugins.dnssec.denial import nsec
from svcdns.wire import names
from tests.support import world

ZONE = names.from_text("example.org.")
NAME = "HINFO TXT AAAA LOC SRV CERT SSHFP RRSIG NSEC TLSA HIP OPENPGPKEY SPF"
LONG = "l" * 63


@pytest.mark.parametrize(
    ("name", "rtype", "kind", "expected"),
    [
        ("Www.example.org.", "A", MessageType.NXDOMAIN, f"\\000.Www.example.org. {NAME}"),
        ("www.example.org.", "MX", MessageType.NODATA, f"\\000.www.example.org. A {NAME}"),
        ("www.example.org.", "NSEC", MessageType.NODATA, f"\\000.www.example.org. A {NAME}"),
        ("www.example.org.", "DS", MessageType.NODATA, f"\\000.www.example.org. A NS {NAME}"),
        (
            "example.org.",
            "MX",
            MessageType.NODATA,
            "\\000.example.org. A NS SOA HINFO TXT AAAA LOC SRV CERT SSHFP RRSIG NSEC DNSKEY TLSA HIP OPENPGPKEY SPF",
        ),
        (
            "example.org.",
            "DS",
            MessageType.NODATA,
            "\\000.example.org. A NS SOA HINFO MX TXT AAAA LOC SRV CERT SSHFP RRSIG NSEC DNSKEY TLSA HIP OPENPGPKEY SPF",
        ),
        ("a.sub.example.org.", "A", MessageType.DELEGATION, f"a\\000.sub.example.org. A NS {NAME}"),
        pytest.param(
            f"{LONG}.sub.example.org.",
            "A",
            MessageType.DELEGATION,
            f"\\000.{LONG}.sub.example.org. A NS {NAME}",
            id="the longest label",
        ),
    ],
)
def test_the_record(name: str, rtype: str, kind: MessageType, expected: str) -> None:
    found = nsec(world.query(name, rtype), ZONE, 30, kind)
    assert world.shown([found]) == [f"{name} 30 IN NSEC {expected}"]


def test_the_longest_names_are_followed_by_the_apex() -> None:
    name = f"{LONG}.{LONG}.{LONG}.{'l' * 48}.example.org."
    assert len(names.from_text(name)) == 254
    assert world.shown([nsec(world.query(name), ZONE, 30, MessageType.NXDOMAIN)])[0].split()[4] == "example.org."


def test_the_root_zone() -> None:
    found = nsec(world.query(".", "MX"), names.ROOT, 30, MessageType.NODATA)
    assert world.shown([found])[0].startswith(". 30 IN NSEC \\000. A NS SOA HINFO TXT ")
    found = nsec(world.query(".", "MX"), names.ROOT, 30, MessageType.DELEGATION)
    assert world.shown([found])[0].startswith(". 30 IN NSEC \\000. A NS SOA HINFO MX TXT ")
