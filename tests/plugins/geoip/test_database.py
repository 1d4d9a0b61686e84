"""Reading databases in the MaxMind DB format."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from svcdns.plugins.geoip.database import Database, DatabaseError
from tests.support.geoip_database import ABOUT, MARKER, PLACE, database, encoded


@pytest.mark.parametrize("record_size", [24, 28, 32])
@pytest.mark.parametrize("ip_version", [4, 6])
def test_addresses_and_networks(ip_version: int, record_size: int) -> None:
    """An address gets the data of its network, with each size of records, for IPv4 and IPv6."""
    networks: dict[str, Any] = {"192.0.2.0/25": {"n": 1}, "192.0.2.128/25": {"n": 2}, "10.1.2.3/32": {"n": 3}}
    if ip_version == 6:
        networks["2001:db8::/32"] = {"n": 4}
    found = Database(database(networks, ip_version=ip_version, record_size=record_size))
    expected = {"192.0.2.1": 1, "192.0.2.129": 2, "10.1.2.3": 3, "10.1.2.4": None, "::ffff:192.0.2.1": 1}
    expected |= {"2001:db8::1": 4 if ip_version == 6 else None, "2001:db9::1": None, "fe80::1%eth0": None, "x": None}
    assert {address: found.find(address).get("n") for address in expected} == expected


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(PLACE, id="a place"),
        pytest.param({"long": "x" * 70000, "medium": "y" * 300, "short": "z" * 40}, id="lengths of texts"),
        pytest.param({"list": list(range(40)), "empty": [], "no": False}, id="lists and truth values"),
        pytest.param({"number": 2**31, "zero": 0, "real": -1.5}, id="numbers"),
    ],
)
def test_values(value: dict[str, Any]) -> None:
    """Every type of data is read as it was written."""
    assert Database(database({"192.0.2.0/24": value})).find("192.0.2.1") == value


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"no database", id="no marker"),
        pytest.param(MARKER + encoded("x"), id="the metadata is no map"),
        pytest.param(MARKER + encoded({"node_count": 1}), id="no record size"),
        pytest.param(MARKER + encoded(ABOUT | {"node_count": "x"}), id="a count that is no number"),
        pytest.param(MARKER + encoded(ABOUT | {"node_count": 999}), id="the tree is longer than the file"),
        pytest.param(MARKER + encoded(ABOUT | {"record_size": 25}), id="record size"),
        pytest.param(MARKER + b"\xe5", id="cut off"),
        pytest.param(MARKER + encoded({"a": b"\x20\0"}), id="a pointer to itself"),
    ],
)
def test_files_that_are_no_databases(data: bytes) -> None:
    with pytest.raises(DatabaseError, match="error opening database: invalid MaxMind DB file"):
        Database(bytes(16) + data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xff\xff\xff\xff", id="a map of 16 million keys"),
        pytest.param(b"\x1f\x04\xff\xff\xff", id="a list of 16 million items"),
        pytest.param(b"\x5f\xff\xff\xff", id="a text of 16 million octets"),
        pytest.param(b"\x02\x04\x20\0\x20\0", id="a list of pointers to itself"),
        pytest.param(b"\xe1\xe0\xe0", id="a map as a key"),
    ],
)
def test_hostile_databases(data: bytes) -> None:
    found = Database(database({"192.0.2.0/24": data}))
    with pytest.raises(DatabaseError, match="the database is damaged"):
        found.find("192.0.2.1")


def test_damaged_databases_raise_no_other_error() -> None:
    """Whatever octets are changed, the reader returns data or raises DatabaseError."""
    random, good = Random(1), database({"192.0.2.0/24": PLACE, "2001:db8::/32": PLACE})
    errors = 0
    for _ in range(1000):
        data = bytearray(good)
        for _ in range(random.randrange(1, 6)):
            data[random.randrange(len(data))] = random.randrange(256)
        try:
            found = Database(bytes(data))
            found.find("192.0.2.1")
            found.find("2001:db8::1")
        except DatabaseError:
            errors += 1
    assert errors > 100
