"""Encoding the RDATA of common types without dnspython."""

from __future__ import annotations

import subprocess
import sys

import pytest

from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.plain_rdata import plain
from svcdns.wire.rdata_text import to_wire
from svcdns.wire.zone_words import Quoted

SIGNATURE = ["A", "13", "2", "60", "20301231000000", "20201231000000", "7", "mill.test.", "AQID"]
ORIGIN = names.from_text("mill.test.")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        pytest.param("A", ["192.0.2.1"], id="A"),
        pytest.param("AAAA", ["2001:DB8::192.0.2.1"], id="AAAA"),
        pytest.param("CNAME", ["web"], id="relative name"),
        pytest.param("CNAME", ["@"], id="origin"),
        pytest.param("DNAME", ["."], id="root"),
        pytest.param("NS", ["Ns1.Example."], id="absolute name"),
        pytest.param("PTR", ["x" * 63], id="label of 63 octets"),
        pytest.param("PTR", [".".join(["x" * 60] * 4)], id="name of 255 octets"),
        pytest.param("MX", ["010", "mail"], id="MX"),
        pytest.param("SRV", ["0", "65535", "80", "web."], id="SRV"),
        pytest.param("SOA", ["ns", "admin", "4294967295", "7200", "3600", "1209600", "300"], id="SOA"),
        pytest.param("TXT", ["one", Quoted("t w o"), Quoted(""), Quoted("x" * 255)], id="TXT"),
        pytest.param("SPF", [Quoted("v=spf1 -all")], id="SPF"),
        pytest.param(
            "RRSIG", ["A", "13", "2", "60", "20301231235959", "20240229000000", "7", "@", "AQ", "ID"], id="RRSIG"
        ),
        pytest.param(
            "RRSIG", ["NSEC", "8", "0", "2147483647", "21060207062815", "19700101000000", "0", ".", "AA=="], id="limits"
        ),
    ],
)
def test_the_octets_are_those_of_dnspython(kind: str, words: list[str]) -> None:
    found = plain(int(Type[kind]), words, ORIGIN)
    assert found == to_wire(int(Type[kind]), words, ORIGIN, pytest.fail)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        pytest.param("A", ["192.0.2.256"], id="no address"),
        pytest.param("A", ["192.0.2.1", "192.0.2.2"], id="two addresses"),
        pytest.param("AAAA", ["192.0.2.1"], id="wrong family"),
        pytest.param("A", ["\\#", "4", "c0000201"], id="generic form"),
        pytest.param("CNAME", [], id="no name"),
        pytest.param("CNAME", ["a", "b"], id="two names"),
        pytest.param("CNAME", ["a\\.b"], id="escape in a name"),
        pytest.param("CNAME", [Quoted("web")], id="quoted name"),
        pytest.param("NS", ["a..b"], id="empty label"),
        pytest.param("NS", [".a"], id="leading dot"),
        pytest.param("PTR", ["x" * 64], id="label of 64 octets"),
        pytest.param("PTR", [".".join(["x" * 60] * 4) + "y"], id="name of 256 octets"),
        pytest.param("MX", ["65536", "mail"], id="preference too large"),
        *(
            pytest.param("RRSIG", [*SIGNATURE[:place], word, *SIGNATURE[place + 1 :]], id=f"RRSIG with {word}")
            for place, word in (
                (0, "a"),
                (1, "ECDSAP256SHA256"),
                (2, "256"),
                (3, "1h"),
                (4, "1600000000"),
                (4, "20300231000000"),
                (5, "21060207062816"),
                (5, "2020010100000x"),
                (6, "65536"),
                (7, "a\\.b"),
                (8, "AQI"),
                (8, Quoted("AQID")),
            )
        ),
        pytest.param("RRSIG", SIGNATURE[:8], id="RRSIG without a signature"),
        pytest.param("MX", ["-1", "mail"], id="negative preference"),
        pytest.param("MX", ["mail", "10"], id="words exchanged"),
        pytest.param("MX", [Quoted("10"), "mail"], id="quoted number"),
        pytest.param("SRV", ["1", "2", "3"], id="no target"),
        pytest.param("SOA", ["ns", "admin", "1", "2h", "1h", "2w", "5m"], id="units"),
        pytest.param("SOA", ["ns", "admin", "1", "2", "3", "4", "9" * 5000], id="number of thousands of digits"),
        pytest.param("TXT", [], id="no string"),
        pytest.param("TXT", ["x" * 256], id="long string"),
        pytest.param("TXT", ["\\065"], id="escape in a string"),
        pytest.param("CAA", ["0", "issue", Quoted("ca.example")], id="another type"),
    ],
)
def test_other_words_are_left_to_dnspython(kind: str, words: list[str]) -> None:
    """For text in an unusual form, `plain` returns None, and dnspython reads or refuses the text."""
    assert plain(int(Type[kind]), words, ORIGIN) is None


def test_a_plain_zone_needs_no_dnspython() -> None:
    program = (
        "import sys; from svcdns.wire import names, zone_text;"
        "text = '@ SOA ns admin 1 2 3 4 5\\n@ NS ns\\nns A 192.0.2.1\\nt TXT \"a b\"\\n_s SRV 0 0 80 ns\\n';"
        "print(len(zone_text.read(text, names.from_text('mill.test.'), 'z')), 'dns' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["5", "False"]
