"""Zones that move from one catalog to another (RFC 9432 §4.3.1)."""

from __future__ import annotations

from typing import Any

import pytest

from svcdns.wire import names
from svcdns.zones.content import encode
from tests.plugins.secondary.test_catalog import catalog, served
from tests.plugins.secondary.test_handler import Worker
from tests.support import world

OTHER = "other.example."


def other_catalog(serial: int, *pairs: str) -> bytes:
    """Returns the content of the second catalog."""
    return catalog(serial, *pairs, apex=OTHER)


def two_catalogs(**fields: Any) -> Worker:
    """Returns the plugin with two catalogs. The first one has the zone one.test, with content."""
    worker = Worker("catalog }\nsecondary other.example {\n transfer from 127.0.0.9\n catalog", **fields)
    worker.take("", "zone example.org.", catalog(1, "a=one.test."))
    content = world.records(
        "one.test. 60 IN SOA ns.one.test. root.one.test. 1 2 3 4 5", "www.one.test. 60 IN A 10.0.0.1"
    )
    worker.take("", "zone one.test.", encode(content[0], content, 0))
    return worker


@pytest.mark.parametrize("new_first", [False, True])
@pytest.mark.parametrize(
    ("ident", "expected"), [pytest.param("a", "NOERROR", id="same id"), pytest.param("b", "SERVFAIL", id="other id")]
)
def test_a_zone_moves_to_another_catalog(ident: str, expected: str, *, new_first: bool) -> None:
    """The property coo lets the new catalog have the zone. With the same unique label, the zone keeps its content."""
    worker = two_catalogs(first=False)
    steps = [
        ("zone example.org.", catalog(2, "a=one.test.", "coo.a=other.example.")),
        ("zone other.example.", other_catalog(1, f"{ident}=one.test.")),
    ]
    for key, content in steps[::-1] if new_first else steps:
        worker.take("", key, content)
    assert worker.ask("www.one.test.")[0] == expected
    worker.take("", "zone example.org.", catalog(3))
    assert served(worker) == ["example.org.", "one.test.", "other.example."], "the first catalog has it no longer"
    worker.take("", "zone other.example.", other_catalog(2))
    assert served(worker) == ["example.org.", "other.example."]


def test_a_zone_does_not_move_without_consent() -> None:
    """Another catalog cannot take a zone. When the first catalog drops the zone, the other one gets it."""
    worker = two_catalogs(first=False)
    worker.take("", "zone other.example.", other_catalog(1, "a=one.test."))
    worker.take("", "zone example.org.", catalog(2, "a=one.test.", "coo.a=third.example."))
    assert worker.ask("www.one.test.")[0] == "NOERROR"
    worker.take("", "zone example.org.", catalog(3))
    assert worker.ask("www.one.test.") == ["SERVFAIL"], "the zone begins anew"


async def test_a_moved_zone_is_transferred_from_the_new_servers() -> None:
    worker = two_catalogs(primaries="127.0.0.1:1")
    worker.plugin.start()
    zone = names.from_text("one.test.")
    first = worker.plugin._tasks[zone]
    worker.take("", "zone other.example.", other_catalog(1, "a=one.test."))
    worker.take("", "zone example.org.", catalog(2, "a=one.test.", "coo.a=other.example."))
    assert worker.plugin._tasks[zone] is not first
    assert not worker.plugin.notified(zone, "127.0.0.1")
    assert worker.plugin.notified(zone, "127.0.0.9")
    assert worker.ask("www.one.test.")[0] == "NOERROR"
    worker.plugin.stop()
