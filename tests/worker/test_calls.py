"""The functions that control runs in a worker."""

from __future__ import annotations

import logging

import msgspec
import pytest

from svcdns.feed.frames import Call, Returned
from svcdns.telemetry.profiles import Sample
from svcdns.worker import calls


async def test_profiles_and_stacks() -> None:
    seconds = msgspec.msgpack.encode(0.01)
    for function in ("cpu_profile", "heap_profile"):
        returned = await calls.run(Call(3, function, seconds))
        assert (returned.number, returned.error) == (3, "")
        msgspec.msgpack.decode(returned.result, type=list[Sample])
    returned = await calls.run(Call(4, "stacks", b""))
    assert b"test_profiles_and_stacks" in returned.result


async def test_errors_are_returned(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown function, a wrong argument, and an exception. The log has only the exception."""
    assert await calls.run(Call(1, "nothing", b"")) == Returned(1, b"", "no function 'nothing'")
    returned = await calls.run(Call(2, "cpu_profile", msgspec.msgpack.encode(-1.0)))
    assert "at most 120 seconds" in returned.error
    assert caplog.records == []

    async def fails(_argument: bytes) -> bytes:
        raise KeyError("x")

    monkeypatch.setitem(calls.FUNCTIONS, "stacks", fails)
    with caplog.at_level(logging.ERROR):
        assert await calls.run(Call(3, "stacks", b"")) == Returned(3, b"", "KeyError: 'x'")
    assert "The function stacks of a tool failed" in caplog.text
