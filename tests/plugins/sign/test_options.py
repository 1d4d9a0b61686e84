"""The options of *sign*."""

from __future__ import annotations

import pytest

from svcdns.plugins.sign.options import ZoneToSign
from tests.support import world


def zones(text: str, **fields: str) -> tuple[ZoneToSign, ...]:
    found: tuple[ZoneToSign, ...] = world.options("sign", text, **fields).zones
    return found


def test_reads_all_options() -> None:
    one, other = zones(
        "sign db one.test TWO.test {\n key file /k/Kone.+013+1.key Ktwo.+013+2.private K3\n key directory keys\n"
        " directory out\n}",
        root="/etc/dns",
    )
    assert (one.zone, one.file, one.signed_file) == ("one.test.", "/etc/dns/db", "/etc/dns/out/db.one.test.signed")
    assert other.signed_file == "/etc/dns/out/db.two.test.signed"
    assert [(key.path, key.is_folder) for key in one.keys] == [
        ("/k/Kone.+013+1", False),
        ("/etc/dns/Ktwo.+013+2", False),
        ("/etc/dns/K3", False),
        ("/etc/dns/keys", True),
    ]
    assert [(key.position.line, key.position.column) for key in one.keys] == [(3, 11), (3, 30), (3, 50), (4, 16)]


def test_the_zones_of_the_block_and_the_folder_of_coredns_are_the_default() -> None:
    (one,) = zones("sign db {\n key file K\n}", zones="example.org")
    assert (one.zone, one.signed_file) == ("example.org.", "/var/lib/coredns/db.example.org.signed")


def test_several_directives() -> None:
    assert [one.zone for one in zones("sign a one.test {\n key file K\n}\nsign b two.test {\n key file K\n}")] == [
        "one.test.",
        "two.test.",
    ]


def test_a_slash_in_a_zone_is_no_slash_in_the_file_name() -> None:
    (one,) = zones("sign db 32/27.2.0.192.in-addr.arpa {\n key file K\n directory /out\n}")
    assert one.signed_file == "/out/db.32\\04727.2.0.192.in-addr.arpa.signed"


def test_no_key_is_a_warning() -> None:
    """CoreDNS starts without a key, too."""
    assert "there is no 'key'" in world.options("sign", "sign db").warnings[0]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("sign", "sign"),
        ("sign db {\n key\n}", "key"),
        ("sign db {\n key file\n}", "file"),
        ("sign db {\n key files K\n}", "'files'"),
        ("sign db {\n key directory a b\n}", "'b' behind 'key'"),
        ("sign db {\n directory\n}", "directory"),
        ("sign db {\n directory a b\n}", "'b' behind 'directory'"),
        ("sign db {\n keys file K\n}", "unknown property 'keys' (did you mean 'key'?)"),
    ],
)
def test_rejects(text: str, error: str) -> None:
    assert error in world.rejection("sign", text)
