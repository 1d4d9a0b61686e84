"""The pages `/v1/cache` and `/v1/cache/flush`: the stored replies of all workers (docs/cache.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from svcdns.control.workers import Workers
from svcdns.errors import SvcdnsError
from svcdns.plugin_api.stored import Selection, StoredReplies, StoredReply
from svcdns.wire import names
from svcdns.wire.codes import Type, rcode_text, type_text
from svcdns.wire.errors import NameTextError

FORMAT: Final = 1
TIMEOUT: Final = 20.0
"""Seconds that a worker may take."""
LIMIT: Final = 1000
"""The number of replies in a document if the tool states none."""
MAX_LIMIT: Final = 50_000


class RequestError(SvcdnsError):
    """Raised for a request that has a wrong parameter. The text says what was expected."""


class CachedReply(msgspec.Struct, frozen=True):
    """The stored replies with the same store, server, name, type and response code.

    - `store` is `table` for the answer table, or `cache` for the plugin.
    - `ttl` is the TTL that the next client gets, in seconds: the largest TTL of all these replies.
    - `expires_in` is in seconds, for the reply that expires last. The value is null if a reply is valid until its data
      change. Below 0, the reply has expired and may still be served.
    - `hits` is null if the uses are not counted for single replies.
    - `count` is the number of replies. `workers` are the workers that have one.
    """

    store: str
    server: str
    name: str
    type: str
    rcode: str
    ttl: int
    expires_in: float | None
    hits: int | None
    count: int
    workers: list[str]


class CacheList(msgspec.Struct, frozen=True):
    """The stored replies of all workers. `total` counts all of them, also those that `replies` leaves out."""

    format: int
    total: int
    replies: list[CachedReply]


class CacheFlush(msgspec.Struct, frozen=True):
    """The number of replies that were removed, by worker and by store."""

    format: int
    flushed: int
    stores: dict[str, int]
    workers: dict[str, int]


def schemas() -> dict[str, dict[str, Any]]:
    """Returns the JSON schemas of the documents by the names of their files."""
    return {
        "cache-list.json": msgspec.json.schema(CacheList),
        "cache-flush.json": msgspec.json.schema(CacheFlush),
    }


class CachePages:
    """Makes the documents."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    async def listed(self, query: Mapping[str, str]) -> CacheList:
        """Returns the replies that `name`, `type`, `zone` and `limit` select. Raises RequestError and CallError."""
        limit = _limit(query.get("limit", ""))
        argument = msgspec.msgpack.encode((_selection(query), limit))
        joined: dict[Any, tuple[StoredReply, list[str]]] = {}
        total = 0
        for worker, octets in (await self._all("list_replies", argument)).items():
            found = msgspec.msgpack.decode(octets, type=StoredReplies)
            total += found.total
            for reply in found.replies:
                known = joined.get(reply.key)
                if known is None:
                    joined[reply.key] = reply, [worker]
                else:
                    known[0].join(reply)
                    known[1].append(worker)
        rows = [_row(reply, workers) for reply, workers in joined.values()]
        rows.sort(key=lambda row: (row.name, row.type, row.store, row.server))
        return CacheList(FORMAT, total, rows[:limit])

    async def flush(self, query: Mapping[str, str]) -> CacheFlush:
        """Removes the replies that `name` and `type`, or `zone`, select. Raises RequestError and CallError."""
        if not (query.get("name") or query.get("zone")):
            raise RequestError("a name or a zone was expected")
        found = await self._all("drop_replies", msgspec.msgpack.encode((_selection(query), 0)))
        stores: dict[str, int] = {}
        workers: dict[str, int] = {}
        for worker, octets in found.items():
            counts = msgspec.msgpack.decode(octets, type=dict[str, int])
            workers[worker] = sum(counts.values())
            for store, count in counts.items():
                stores[store] = stores.get(store, 0) + count
        return CacheFlush(FORMAT, sum(workers.values()), stores, workers)

    async def _all(self, function: str, argument: bytes) -> dict[str, bytes]:
        """Runs a function in all workers. Raises CallError if one of them fails."""
        names_of = self._workers.callable_workers()
        calls = (self._workers.call(region, function, argument, TIMEOUT) for region in names_of.values())
        return dict(zip(names_of, await asyncio.gather(*calls), strict=True))


def _row(reply: StoredReply, workers: list[str]) -> CachedReply:
    return CachedReply(
        reply.store, reply.server, names.to_text(reply.name), type_text(reply.rtype), rcode_text(reply.rcode),
        reply.ttl, None if reply.expires is None else round(reply.expires, 3), reply.hits, reply.count, workers,
    )  # fmt: skip


def _selection(query: Mapping[str, str]) -> Selection:
    name, zone = query.get("name", ""), query.get("zone", ".")
    return Selection(_wire(name) if name else b"", _wire(zone), _rtype(query.get("type", "")))


def _wire(text: str) -> bytes:
    try:
        return names.from_text(text).lower()
    except NameTextError as error:
        raise RequestError(f"'{text}' is no domain name: {error}") from error


def _rtype(text: str) -> int:
    if not text:
        return 0
    upper = text.upper()
    found = Type.__members__.get(upper)
    if found is not None:
        return int(found)
    if upper.startswith("TYPE") and upper[4:].isascii() and upper[4:].isdecimal() and int(upper[4:9]) < 65536:
        return int(upper[4:9])
    raise RequestError(f"'{text}' is no record type")


def _limit(text: str) -> int:
    if not text:
        return LIMIT
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:9]) <= MAX_LIMIT:
        raise RequestError(f"limit={text}: a number from 1 to {MAX_LIMIT} was expected")
    return int(text)
