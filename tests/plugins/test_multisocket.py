"""The options of *multisocket*."""

from __future__ import annotations

import pytest

from svcdns.plugins import multisocket
from svcdns.plugins.multisocket import Multisocket, Options
from tests.support import world


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretends that the machine has three processors and room for five workers."""
    monkeypatch.setattr(multisocket, "processors", lambda: 3)
    monkeypatch.setattr(multisocket, "capacity", lambda: (5, "as the test says"))


@pytest.mark.parametrize(
    ("text", "workers"),
    [
        pytest.param("multisocket", 3, id="a worker for each processor"),
        pytest.param("multisocket 4", 4, id="more than processors"),
        pytest.param("multisocket 2\nmultisocket 4", 4, id="the last one counts"),
        pytest.param("multisocket 64\nmultisocket 4", 4, id="only the last one warns"),
    ],
)
def test_reads(text: str, workers: int) -> None:
    assert world.options("multisocket", text) == Options(workers)


def test_more_workers_than_the_machine_has_room_for() -> None:
    options = world.options("multisocket", "multisocket 64")
    line = "2:13 - multisocket: 64 workers are configured, 5 are run: as the test says"
    assert options.workers == 5
    assert [text.rpartition("Corefile:")[2] for text in options.warnings] == [line]
    assert Multisocket.settings(options).warnings == options.warnings


def test_a_small_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even without a number, the warning has the position of the directive."""
    monkeypatch.setattr(multisocket, "capacity", lambda: (1, "memory"))
    (line,) = world.options("multisocket", "multisocket").warnings
    assert "2:1 - multisocket: 3 workers are configured, 1 are run: memory" in line


@pytest.mark.parametrize("word", ["0", "1025", "-1", "many"])
def test_rejects(word: str) -> None:
    assert world.rejection("multisocket", f"multisocket {word}").startswith("2:13 ")
