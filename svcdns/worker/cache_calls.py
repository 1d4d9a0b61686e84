"""Lists and drops the stored replies of a worker, for tools: those of the answer tables and of plugins.

Both functions run in small steps, so that queries are answered meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from svcdns.plugin_api.stored import Selection, StoredReplies, StoredReply
from svcdns.serving.answer_table import AnswerTable, Entry
from svcdns.wire.errors import FormError
from svcdns.wire.message import parse_message

if TYPE_CHECKING:
    from svcdns.worker.inspected import Inspected

STEP: Final = 64
"""The entries of one step."""
_NAME_AT: Final = 10
"""The offset of the question's name in a reply without its message id."""
_NO_ID: Final = b"\0\0"


async def listed(worker: Inspected, selection: Selection, limit: int) -> StoredReplies:
    """Returns the stored replies of a selection. Joins replies with equal keys, and returns at most `limit` of them."""
    found: dict[Any, StoredReply] = {}
    total = 0

    def steps() -> Iterator[None]:
        nonlocal total
        for one in _stored(worker, selection, lambda: len(found) >= limit):
            if one is None:
                yield
                continue
            total += one.count
            before = found.get(one.key)
            if before is not None:
                before.join(one)
            elif len(found) < limit:
                found[one.key] = one

    await worker.in_steps(steps())
    return StoredReplies(total, list(found.values()))


async def dropped(worker: Inspected, selection: Selection) -> dict[str, int]:
    """Drops the stored replies of a selection, and returns their numbers by store."""
    counts = {"table": 0}

    def steps() -> Iterator[None]:
        now = worker.clock()
        for responder in worker.listeners.responders:
            table = responder.table
            table.drop_negative()
            yield from table.purge()  # the kernel may still have entries of discarded generations
            for entry in _entries(table, now):
                if entry is None:
                    yield
                elif _is_selected(entry, selection):
                    table.drop(entry.key)
                    counts["table"] += 1
        for plugin in worker.plugins_with("drop_replies"):
            for count in plugin.drop_replies(selection):
                counts[plugin.name] = counts.get(plugin.name, 0) + count
                yield

    await worker.in_steps(steps())
    return counts


def _stored(worker: Inspected, selection: Selection, is_full: Any) -> Iterator[StoredReply | None]:
    """Yields the stored replies, and None after each step."""
    now = worker.clock()
    for responder in worker.listeners.responders:
        for entry in _entries(responder.table, now):
            if entry is None:
                yield None
            elif _is_selected(entry, selection):
                yield _shown(entry, responder.listener.server, now, is_short=is_full())
    for plugin in worker.plugins_with("stored_replies"):
        yield from plugin.stored_replies(selection)


def _entries(table: AnswerTable, now: float) -> Iterator[Entry | None]:
    for number, entry in enumerate(table.usable(now)):
        if number % STEP == STEP - 1:
            yield None
        yield entry


def _is_selected(entry: Entry, selection: Selection) -> bool:
    wire = entry.wires[0]
    end = _name_end(wire)
    return bool(end) and selection.has_name(wire[_NAME_AT:end].lower()) and selection.has_type(_type(wire, end))


def _name_end(wire: bytes) -> int:
    """Returns the offset after the question's name, or 0 for a reply without a question."""
    if wire[2:4] != b"\0\1":
        return 0
    at = _NAME_AT
    while length := wire[at]:
        at += 1 + length
    return at + 1


def _type(wire: bytes, end: int) -> int:
    return int.from_bytes(wire[end : end + 2], "big")


def _shown(entry: Entry, server: str, now: float, *, is_short: bool) -> StoredReply:
    """Describes an entry. With `is_short`, the reply is only counted, and its TTL is not read."""
    wire = entry.wires[0]
    end = _name_end(wire)
    details = entry.details
    ends = entry.deadline if details is None or details.countdown is None else details.countdown.ends
    return StoredReply(
        "table",
        server,
        wire[_NAME_AT:end].lower(),
        _type(wire, end),
        wire[1] & 15,
        0 if is_short else _ttl(wire),
        None if ends == float("inf") else ends - now,
        details.uses - 1 if details is not None and details.wires else None,
    )


def _ttl(wire: bytes) -> int:
    """Returns the smallest TTL of a reply, 0 without records."""
    try:
        message = parse_message(_NO_ID + wire)
    except FormError:
        return 0
    return min((record.ttl for record in (*message.answer, *message.authority)), default=0)


def decode_selection(argument: bytes) -> tuple[Selection, int]:
    """Decodes a selection and the largest number of replies."""
    return msgspec.msgpack.decode(argument, type=tuple[Selection, int])
