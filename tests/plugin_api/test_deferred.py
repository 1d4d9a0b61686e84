"""Deferred replies, which arrive later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from svcdns.plugin_api.contract import then
from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.reply import Reply


def with_rcode(rcode: int, seen: list[int]) -> Callable[[Reply], Reply]:
    """Returns a function that sets the rcode, and records the previous rcode in `seen`."""

    def change(reply: Reply) -> Reply:
        seen.append(reply.rcode)
        return msgspec.structs.replace(reply, rcode=rcode)

    return change


def test_functions_run_in_order_when_the_reply_arrives() -> None:
    """If the reply has already arrived, a function given to `then` runs immediately."""
    later = Deferred()
    seen: list[int] = []
    taken: list[Any] = []
    assert then(later, with_rcode(1, seen)) is later
    then(later, with_rcode(2, seen))
    later.take(taken.append, taken.append)
    later.set(Reply(rcode=0))
    assert (seen, [reply.rcode for reply in taken]) == ([0, 1], [2])
    late = Deferred()
    late.set(Reply(rcode=5))
    then(late, with_rcode(6, seen))
    late.take(taken.append, taken.append)
    assert (seen[-1], taken[-1].rcode) == (5, 6)


def test_a_second_value_is_ignored() -> None:
    later = Deferred()
    taken: list[Any] = []
    later.take(taken.append, taken.append)
    later.set(Reply(rcode=0))
    later.set(Reply(rcode=3))
    assert [reply.rcode for reply in taken] == [0]


async def test_an_exception_reaches_the_caller_that_waits() -> None:
    """A function given to `then` raises. The caller waits by callback or by `await`."""

    def broken(_: Reply) -> Reply:
        raise ValueError("broken")

    later = Deferred()
    failed: list[Any] = []
    later.then(broken)
    later.take(failed.append, failed.append)
    later.set(Reply())
    assert [str(error) for error in failed] == ["broken"]
    awaited = Deferred()
    awaited.then(broken)
    waiting = asyncio.ensure_future(awaited)
    await asyncio.sleep(0)
    awaited.set(Reply())
    with pytest.raises(ValueError, match="broken"):
        await waiting


async def test_may_be_awaited() -> None:
    """If one caller cancels its `await`, other callers still get the reply."""
    later = Deferred()
    waiting = asyncio.ensure_future(later)
    await asyncio.sleep(0)
    later.set(Reply(rcode=3))
    assert ((await waiting).rcode, (await later).rcode) == (3, 3)
    gone = Deferred()
    waiting = asyncio.ensure_future(gone)
    await asyncio.sleep(0)
    waiting.cancel()
    gone.set(Reply())
    with pytest.raises(asyncio.CancelledError):
        await waiting
