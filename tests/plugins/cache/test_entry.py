"""Cache entries, and their encoding for the hand-over to another worker."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.plugin_api.fast_path import Key
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.cache.entry import Entry
from svcdns.plugins.cache.memory import MemoryBudget
from svcdns.plugins.cache.store import Store
from svcdns.wire.codes import RA, RD, Rcode
from svcdns.wire.record import Record
from tests.support import world

KEY: Key = (b"\1a\0", 1, 1, True, False)
REPLY = Reply(
    Rcode.NXDOMAIN,
    RD | RA,
    world.records("a. 60 IN CNAME b."),
    world.records("b. 60 IN SOA ns. root. 1 2 3 4 5"),
    world.records("c. 60 IN A 10.0.0.1"),
)


def store(allowance: int = 1 << 30) -> Store:
    return Store(1024, MemoryBudget(lambda: allowance), lambda: None)


def hand_over(old: Store, new: Store, *, then: float = 0.0) -> None:
    """Moves all entries to the store of a worker with another clock."""
    for portion in old.pack(1000.0):
        new.unpack(portion, then)


def test_remaining_time_is_in_whole_seconds() -> None:
    entry = Entry(Reply(), 100.0, 5)
    assert [entry.remaining(now) for now in (100.0, 100.9, 101.0, 104.9, 105.0)] == [5, 5, 4, 1, 0]


def test_an_entry_goes_to_another_worker() -> None:
    """The remaining time is the same on the other worker's clock. Hits and retry times are not handed over."""
    old, new = store(), store()
    old.put(KEY, Entry(REPLY, 970.5, 60, is_answer=False, hits=3, retry_after=2000.0))
    hand_over(old, new, then=5.0)
    (entry,) = new.entries.values()
    assert (entry.reply, entry.stored, entry.lifetime, entry.is_answer) == (REPLY, -24.5, 60, False)
    assert (entry.remaining(5.0), entry.hits, entry.retry_after, entry.octets) == (31, 0, float("-inf"), old.octets)


def test_an_existing_entry_stays() -> None:
    """An entry that the new store has already is newer than the moved entry."""
    old, new = store(), store()
    old.put(KEY, Entry(REPLY, 0.0, 60))
    new.put(KEY, Entry(Reply(), 0.0, 5))
    hand_over(old, new)
    assert new.entries[KEY].reply == Reply()


def test_entries_with_dependencies_are_not_handed_over() -> None:
    """The two workers may have different cluster data."""
    old, new = store(), store()
    old.put(KEY, Entry(Reply(dependencies=(("service", "d", "web"),)), 0.0, 60))
    hand_over(old, new)
    assert len(new) == 0


def test_the_newest_entries_are_moved_to_a_smaller_store() -> None:
    old, new = store(), store(allowance=20_000)
    for number in range(500):
        old.put((b"%d" % number, 1, 1, False, False), Entry(REPLY, 0.0, 60))
    hand_over(old, new)
    assert [int(key[0]) for key in new.entries] == list(range(500 - len(new), 500))
    assert new.octets <= 20_000


@pytest.mark.parametrize("portion", [b"", b"\xc1", msgspec.msgpack.encode([1, 2]), msgspec.msgpack.encode({})])
def test_an_invalid_encoding_is_a_decode_error(portion: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        store().unpack(portion, 0.0)


Section = tuple[Record, ...]
NAMES = st.binary(min_size=1, max_size=40)
RECORDS = st.lists(
    st.builds(
        Record, NAMES, st.integers(0, 65535), st.integers(0, 2**31), st.binary(max_size=60), st.integers(0, 65535)
    ),
    max_size=4,
).map(tuple)


@given(
    key=st.tuples(NAMES, st.integers(0, 65535), st.integers(0, 65535), st.booleans(), st.booleans()),
    sections=st.tuples(RECORDS, RECORDS, RECORDS),
    lifetime=st.integers(1, 2**31),
)
def test_an_entry_is_the_same_after_encoding_and_decoding(
    key: Key, sections: tuple[Section, Section, Section], lifetime: int
) -> None:
    old, new = store(), store()
    answer, authority, additional = sections
    reply = Reply(0, RD, answer, authority, additional)
    old.put(key, Entry(reply, 1000.0, lifetime))
    hand_over(old, new)
    assert {key: (entry.reply, entry.stored, entry.lifetime) for key, entry in new.entries.items()} == {
        key: (reply, 0.0, lifetime)
    }
