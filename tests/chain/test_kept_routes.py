"""The routes whose stored replies stay when a Corefile replaces another."""

from __future__ import annotations

from typing import Any

import pytest

from svcdns.chain.kept_routes import kept_routes
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.settings import Settings
from tests.chain.test_build import built

WHERE = ("127.0.0.1", 53, "dns")
ANSWERS_LIKE = {"answers_like": lambda _self, _previous: True}
ZONE = b"\1z\0"


def kept(before: str, after: str, **extra: Any) -> dict[str, tuple[bytes, ...] | None]:
    """Returns the zones in which stored replies stay valid. The key is the zone of the server block."""
    plugins = {name: {**ANSWERS_LIKE, **extra.get(name, {})} for name in ("cache", "forward", "log")}
    (old, _), (new, _) = built(before, **plugins), built(after, **plugins)
    found = kept_routes(old, new).get(WHERE)
    names = {id(route): route.zone_text for route in old.listeners[WHERE].all_routes}
    return {names[number]: one.zones for number, one in found.by_id.items()} if found else {}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param(". {\n cache\n}", ". {\n cache\n}", {".": None}, id="nothing changed"),
        pytest.param(". {\n cache\n}", "#\n. {\n\n cache\n}", {".": None}, id="other lines of the file"),
        pytest.param(". {\n cache\n}", ". {\n cache\n}\na {\n log\n}", {".": None}, id="another block"),
        pytest.param(". {\n cache\n}\na {\n log\n}", ". {\n cache\n}", {".": None}, id="a block removed"),
        pytest.param(". {\n cache\n}", ". {\n cache 1\n}", {}, id="another option"),
        pytest.param(". {\n cache\n}", ". {\n cache\n forward\n}", {}, id="a further plugin"),
        pytest.param(". {\n forward\n}", ". {\n cache\n forward\n}", {}, id="a plugin before"),
        pytest.param(". {\n cache\n}", ". a {\n cache\n}", {}, id="a block with other zones"),
        pytest.param(".:54 {\n cache\n}\n. {\n log\n}", ". {\n cache\n}", {}, id="another port"),
        pytest.param("a b {\n cache\n}", "a b {\n cache\n}", {"a.": None, "b.": None}, id="a block of two zones"),
    ],
)
def test_kept_routes(before: str, after: str, expected: dict[str, None]) -> None:
    assert kept(before, after) == expected


def test_all_replies_of_a_listener_stay() -> None:
    """Only if each route stays, and no route is added or removed."""
    texts = ". {\n cache\n}", ". {\n cache\n}\na {\n log\n}"
    (first, _), (second, _) = (built(text, cache=ANSWERS_LIKE, log=ANSWERS_LIKE) for text in texts)
    (again, _) = built(texts[1], cache=ANSWERS_LIKE, log=ANSWERS_LIKE)
    assert kept_routes(second, again)[WHERE].all_stay
    assert not kept_routes(first, second)[WHERE].all_stay
    assert not kept_routes(second, first)[WHERE].all_stay


def test_a_later_plugin_of_the_chain_has_other_options() -> None:
    """Replies stay in the zones that an earlier plugin answers completely."""
    before, after = ". {\n cache\n forward a\n}", ". {\n cache\n forward b\n}"
    assert kept(before, after, cache={"complete_zones": (ZONE,)}) == {".": (ZONE,)}
    assert kept(before, after, forward={"complete_zones": (ZONE,)}) == {}


def fails(_self: Plugin, _previous: Plugin) -> bool:
    raise LookupError("on purpose")


@pytest.mark.parametrize(
    "hook",
    [
        {"answers_like": Plugin.answers_like},
        {"answers_like": fails},
        {"client_class": lambda _self, _address: ""},
        {"observe": lambda _self, query, reply, size, seconds: None},
    ],
)
def test_blocks_whose_replies_do_not_stay(hook: dict[str, Any]) -> None:
    assert kept(". {\n cache\n}", ". {\n cache\n}", cache=hook) == {}


def test_a_packet_observer_does_not_keep_replies_from_staying() -> None:
    """A block with *log* has one: its stored replies refer to no object of the plugin."""
    observing = {
        "observe": lambda _self, query, reply, size, seconds: None,
        "packet_observer": lambda _self: lambda *_: None,
    }
    assert kept(". {\n cache\n}", ". {\n cache\n}", cache=observing) == {".": None}


def test_other_settings_of_the_block() -> None:
    """The increments of a stored reply are those of the metrics, so the replies do not stay."""
    settings = classmethod(lambda cls, options: Settings(counts_queries=True))
    (old, _), (new, _) = (
        built(". {\n prometheus\n cache\n}", cache=ANSWERS_LIKE, prometheus=extra)
        for extra in ({}, {"settings": settings})
    )  # fmt: skip
    assert kept_routes(old, new)[WHERE].by_id == {}
