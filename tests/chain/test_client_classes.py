"""Grouping of clients into client classes (docs/glossary.md)."""

from __future__ import annotations

import pytest

from svcdns.chain import client_classes
from svcdns.chain.client_classes import MAX_KNOWN, Classes
from svcdns.plugin_api.contract import Plugin


class Networks(Plugin):
    """A plugin that puts clients into classes by address, and counts the calls."""

    name = "networks"
    client_class_dependencies = frozenset({"pod"})

    def __init__(self, **classes: str) -> None:
        self.classes, self.asked = classes, 0

    def client_class(self, address: str) -> str:
        self.asked += 1
        return self.classes.get(address, "")


def test_clients_share_a_class_only_if_every_plugin_puts_them_together() -> None:
    first, second = Networks(a="x", b="x"), Networks(b="y")
    classes = Classes([first, second])
    assert classes.of("c") == classes.of("d")
    assert len({classes.of("a"), classes.of("b"), classes.of("c")}) == 3
    assert {len(classes.of(address)) for address in "abc"} == {4}


def test_a_class_is_computed_once_until_its_dependencies_change() -> None:
    plugin = Networks(a="old")
    classes = Classes([plugin])
    before = classes.of("a")
    assert (classes.of("a"), plugin.asked) == (before, 1)
    plugin.classes["a"] = "new"
    classes.invalidate([("service", "d", "web")])
    assert classes.of("a") == before
    classes.invalidate([("pod", "a")])
    assert classes.of("a") != before


def test_the_number_of_remembered_addresses_is_bounded() -> None:
    classes = Classes([Networks()])
    for number in range(MAX_KNOWN + 10):
        classes.of(str(number))
    assert len(classes._known) <= MAX_KNOWN


def test_the_number_of_classes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a class is forgotten, its identifier is never used for another class."""
    monkeypatch.setattr(client_classes, "MAX_NUMBERED", 10)
    addresses = [str(number) for number in range(95)]
    classes = Classes([Networks(**{address: address for address in addresses})])
    assert len({classes.of(address) for address in addresses}) == len(addresses)
    assert len(classes._numbers) <= 10
    assert classes.of("94") == classes.of("94")
