"""The lines of the plugin *log*, made from objects and from packets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from svcdns.plugin_api.placeholders import COMBINED, compiled, of_packets, schema
from svcdns.plugin_api.query import Client
from svcdns.wire import names
from svcdns.wire.codes import RD, Class, Type
from svcdns.wire.message import encode_query
from svcdns.wire.record import Edns

CLIENT = Client("2001:db8::1", 40000, "2001:db8::53", 53, "udp", 2)


@pytest.mark.parametrize(
    ("edns", "shown"),
    [
        pytest.param(None, "false 512", id="no EDNS"),
        pytest.param(Edns(100), "false 512", id="a small size"),
        pytest.param(Edns(1232, dnssec_ok=True), "true 1232", id="DO"),
        pytest.param(Edns(4096), "false 1400", id="a size above the limit"),
        pytest.param(Edns(1232, dnssec_ok=True, options=((3, b""),)), "true 1232", id="an option"),
    ],
)
def test_a_line_from_packets(edns: Edns | None, shown: str) -> None:
    """The fields of the query are read from its packet, with or without an OPT record."""
    packet = encode_query(4711, RD, names.from_text("A.example.org."), Type.AAAA, Class.IN, edns)
    wire = packet[:2] + b"\x85\x83" + packet[4:]
    key, end = b"\1a\7example\3org\0", 27
    line = compiled(COMBINED + " {local} {odd} 100% {/log/class}")
    assert line(of_packets(packet, wire, CLIENT, 0.00012, key, end, 1400)) == (
        f'[2001:db8::1]:40000 - 4711 "AAAA IN a.example.org. udp {len(packet)} {shown}" NXDOMAIN qr,aa,rd,ra '
        f'{len(wire)} 0.000120000s "0" [2001:db8::53] {{odd}} 100% -'
    )


def test_the_schema_in_the_documentation() -> None:
    root = Path(__file__).parents[2]
    assert json.loads((root / "docs/schemas/log.json").read_text()) == schema()
