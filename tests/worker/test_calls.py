"""The functions that control runs in a worker."""

from __future__ import annotations

import logging
import os
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from svcdns.feed.frames import Call, Returned
from svcdns.feed.tool_messages import WorkerStatus
from svcdns.serving.answer_table import AnswerTable
from svcdns.telemetry.profiles import Sample
from svcdns.worker import calls
from svcdns.worker.inspected import Inspected

WORKER = cast(
    "Inspected", SimpleNamespace(listeners=SimpleNamespace(tables=[AnswerTable(80000, lambda: 0.0)], budget=5))
)


async def test_the_status_of_a_worker() -> None:
    found = msgspec.msgpack.decode((await calls.run(Call(1, "status", b""), WORKER)).result, type=WorkerStatus)
    assert found == WorkerStatus(os.getpid(), 0, WORKER.listeners.tables[0].used, 5)


async def test_profiles_and_stacks() -> None:
    seconds = msgspec.msgpack.encode(0.01)
    for function in ("cpu_profile", "heap_profile"):
        returned = await calls.run(Call(3, function, seconds), WORKER)
        assert (returned.number, returned.error) == (3, "")
        msgspec.msgpack.decode(returned.result, type=list[Sample])
    returned = await calls.run(Call(4, "stacks", b""), WORKER)
    assert b"test_profiles_and_stacks" in returned.result


async def test_errors_are_returned(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown function, a wrong argument, and an exception. The log has only the exception."""
    assert await calls.run(Call(1, "nothing", b""), WORKER) == Returned(1, b"", "no function 'nothing'")
    returned = await calls.run(Call(2, "cpu_profile", msgspec.msgpack.encode(-1.0)), WORKER)
    assert "at most 120 seconds" in returned.error
    assert caplog.records == []

    async def fails(_argument: bytes, _worker: object) -> bytes:
        raise KeyError("x")

    monkeypatch.setitem(calls.FUNCTIONS, "stacks", fails)
    with caplog.at_level(logging.ERROR):
        assert await calls.run(Call(3, "stacks", b""), WORKER) == Returned(3, b"", "KeyError: 'x'")
    assert "the function of a tool failed function=stacks" in caplog.text
