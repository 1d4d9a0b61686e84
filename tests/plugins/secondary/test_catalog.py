"""Catalog zones (RFC 9432)."""

from __future__ import annotations

import pytest

from svcdns.plugins.secondary.catalog import CatalogError, read_catalog
from svcdns.wire import names
from svcdns.zones.content import encode
from tests.plugins.secondary.test_handler import Worker, records
from tests.support import world

CATALOG = names.from_text("example.org.")
SOA = "example.org. 60 IN SOA ns.example.org. root.example.org. {} 1000 1000 1000 5"
VERSION = 'version.example.org. 60 IN TXT "2"'


def catalog(serial: int, *zones: str, apex: str = "example.org.") -> bytes:
    """Returns the content of a catalog whose members are pairs of id and zone, such as `a=one.test.`."""
    lines = [f"{one}.zones.{apex} 60 IN PTR {zone}" for one, _, zone in (pair.partition("=") for pair in zones)]
    found = world.records(*(line.replace("example.org.", apex) for line in (SOA.format(serial), VERSION)), *lines)
    return encode(found[0], found, 0)


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        pytest.param((), "must have exactly one version", id="no version"),
        pytest.param((VERSION, VERSION), "must have exactly one version", id="two versions"),
        pytest.param(('version.example.org. 60 IN TXT "1"',), "must have exactly one version", id="version 1"),
        pytest.param(
            (VERSION, "a.zones.example.org. 60 IN PTR x.", "a.zones.example.org. 60 IN PTR y."),
            "exactly one PTR",
            id="id",
        ),
        pytest.param(
            (VERSION, "a.zones.example.org. 60 IN PTR x.", "b.zones.example.org. 60 IN PTR x."),
            "two members",
            id="zone",
        ),
        pytest.param(
            (VERSION, "coo.a.zones.example.org. 60 IN PTR x.", "coo.a.zones.example.org. 60 IN PTR y."),
            "exactly one PTR",
            id="coo",
        ),
    ],
)
def test_invalid_catalogs(lines: tuple[str, ...], error: str) -> None:
    """A catalog that breaks a rule is not used."""
    with pytest.raises(CatalogError, match=error):
        read_catalog(CATALOG, world.records(*lines))


def test_members() -> None:
    """Only PTR records directly below `zones` are members; other records are ignored."""
    lines = (
        VERSION, "A.zones.example.org. 60 IN PTR One.Test.", "group.a.zones.example.org. 60 IN TXT g",
        "coo.a.zones.example.org. 60 IN PTR other.", "zones.example.org. 60 IN PTR x.", "a.example.org. 60 IN PTR x.",
    )  # fmt: skip
    found = read_catalog(CATALOG, world.records(*lines))
    assert found.members == {names.from_text("one.test."): names.from_text("a.zones.example.org.")}
    assert found.new_owners == {names.from_text("one.test."): names.from_text("other.")}


def served(worker: Worker) -> list[str]:
    """Returns the zones of the plugin."""
    return sorted(names.to_text(zone) for zone in worker.plugin.own_zones)


def test_zones_come_and_go_with_the_catalog() -> None:
    """Members are zones of the plugin from the transfer of the catalog on, until a later version lacks them."""
    worker = Worker("catalog", first=False)
    worker.take("", "zone example.org.", catalog(1, "a=one.test.", "b=two.test.", "c=example.org."))
    assert served(worker) == ["example.org.", "one.test.", "two.test."]
    assert worker.ask("www.one.test.") == ["SERVFAIL"], "not transferred yet"
    content = world.records(
        "one.test. 60 IN SOA ns.one.test. root.one.test. 1 2 3 4 5", "www.one.test. 60 IN A 10.0.0.1"
    )
    worker.take("", "zone one.test.", encode(content[0], content, 0))
    assert worker.ask("www.one.test.") == ["NOERROR", "www.one.test. 60 IN A 10.0.0.1"]
    worker.take("", "zone example.org.", catalog(2, "a=one.test."))
    assert served(worker) == ["example.org.", "one.test."]
    assert worker.ask("www.one.test.")[0] == "NOERROR", "the same id keeps the content"
    assert ("secondary", "catalogs") in worker.invalidated
    worker.take("", "zone example.org.", catalog(3))
    assert worker.ask("www.one.test.") == ["NOTIMP"]


def test_members_outside_of_the_allowed_zones() -> None:
    """`catalog ZONES` restricts the members."""
    worker = Worker("catalog test", first=False)
    worker.take("", "zone example.org.", catalog(1, "a=one.test.", "b=one.example."))
    assert served(worker) == ["example.org.", "one.test."]


async def test_the_first_worker_transfers_the_members() -> None:
    """A task for each member begins, and ends with the member. Another id begins anew."""
    worker = Worker("catalog", primaries="127.0.0.1:1")
    worker.plugin.start()
    worker.take("", "zone example.org.", catalog(1, "a=one.test."))
    zone = names.from_text("one.test.")
    first = worker.plugin._tasks[zone]
    worker.take("", "zone example.org.", catalog(2, "b=one.test."))
    second = worker.plugin._tasks[zone]
    assert second is not first
    assert worker.data["zone one.test."] == b"", "the content is dropped in all workers"
    worker.take("", "zone example.org.", catalog(3))
    assert zone not in worker.plugin._tasks
    worker.plugin.stop()
    assert records()[0].owner == CATALOG
