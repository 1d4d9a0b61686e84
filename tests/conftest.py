"""Fixtures for all tests, and the event loops of asynchronous tests."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest

from svcdns.eventloop.loop import new_loop
from svcdns.serving.answer_table import AnswerTable
from svcdns.sources.api import kubeconfig

hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

ANY_LOOP = ("test_tcp.py", "test_loop.py")
"""Tests that hold on a loop of the standard library too."""


@pytest.fixture(autouse=True, scope="session")
def _without_time_slices() -> Iterator[None]:
    """Sets time slices to infinity, so that no work is deferred on a slow machine. Tests of time slices
    set their own.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("svcdns.serving.transport.udp.SLICE", float("inf"))
        patch.setattr("svcdns.serving.transport.udp.MAX_WORK", float("inf"))
        patch.setattr("svcdns.eventloop.timer_wheel.SLICE", float("inf"))
        yield


@pytest.fixture(autouse=True)
def _emptied_answer_tables() -> Iterator[None]:
    """Empties the answer tables that a test has made, so that the memory of its chains is freed.

    The garbage collector does not track the entries of a table. From an entry, the chains of the test can be reached.
    """
    made: list[tuple[weakref.ref[AnswerTable], Callable[[AnswerTable], None]]] = []
    with pytest.MonkeyPatch.context() as patch:
        init = AnswerTable.__init__

        def note(table: AnswerTable, *arguments: Any, **options: Any) -> None:
            init(table, *arguments, **options)
            # a strong reference would keep the chains of a removed responder
            made.append((weakref.ref(table), lambda table: init(table, *arguments, **options)))

        patch.setattr(AnswerTable, "__init__", note)
        yield
    for reference, empty in made:
        table = reference()
        if table is not None:
            empty(table)


@pytest.fixture
def kubeconfigs_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the Kubernetes client read kubeconfigs in the process of the tests. tests/sources/api/test_kubeconfig.py
    runs it in its own process.
    """

    async def run_reader(path: str, context: str, _timeout: float) -> kubeconfig.Loaded:
        return await kubeconfig.read_or_error(path, context)

    monkeypatch.setattr(kubeconfig, "run_reader", run_reader)


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Returns the event loops for a test: a worker's own loop in `serving` and `worker`, otherwise the
    standard loop.
    """
    if not {"serving", "worker"} & set(item.path.parts[-4:-1]):
        return {"loop": asyncio.SelectorEventLoop}
    any_loop = {"any loop": asyncio.SelectorEventLoop} if item.path.name in ANY_LOOP else {}
    return {"draining loop": new_loop, **any_loop}
