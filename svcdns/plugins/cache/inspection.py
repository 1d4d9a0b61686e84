"""Lists and drops the entries of a cache for tools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from svcdns.plugin_api.stored import Selection, StoredReply
from svcdns.plugins.cache.entry import Entry
from svcdns.plugins.cache.lookup import CachedReplies
from svcdns.plugins.cache.options import Options
from svcdns.plugins.cache.store import Store

STEP: Final = 64
"""The number of entries in one step."""


def listed(
    replies: CachedReplies, store: Store, options: Options, server: str, selection: Selection, now: float
) -> Iterator[StoredReply | None]:
    """Yields the entries of a selection that may be served at the time `now`, and None after each step."""
    for number, (key, entry) in enumerate(list(store.entries.items())):
        if number % STEP == STEP - 1:
            yield None
        if _is_selected(selection, key[0], key[1]) and replies.may_serve(entry, now):
            left = max(0, entry.remaining(now)) or options.stale.ttl
            yield StoredReply(
                "cache",
                server,
                key[0],
                key[1],
                entry.rcode,
                entry.lifetime if options.keepttl else left,
                _expires(entry, now),
                entry.hits if options.prefetch.amount else None,
            )


def dropped(replies: CachedReplies, store: Store, selection: Selection, now: float) -> Iterator[int]:
    """Drops the entries of a selection. Yields after each step how many of them could have been served."""
    count = 0
    for number, key in enumerate(list(store.entries)):
        if number % STEP == STEP - 1:
            yield count
            count = 0
        entry = store.entries.get(key)
        if entry is not None and _is_selected(selection, key[0], key[1]):
            count += replies.may_serve(entry, now)
            store.remove(key)
    yield count


def _is_selected(selection: Selection, name: bytes, rtype: int) -> bool:
    return selection.has_type(rtype) and selection.has_name(name)


def _expires(entry: Entry, now: float) -> float:
    return entry.stored + entry.lifetime - now
