"""Cache entries, and how they are encoded for the hand-over."""

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
    """Returns an empty store."""
    return Store(1024, MemoryBudget(lambda: allowance), lambda: None)


def moved(old: Store, new: Store, *, then: float = 0.0) -> None:
    """Moves all entries to a store of a worker with another clock."""
    for portion in old.pack(1000.0):
        new.unpack(portion, then)


def test_remaining_time_is_in_whole_seconds() -> None:
    """The remaining time of an entry is in whole seconds."""
    entry = Entry(Reply(), 100.0, 5)
    assert [entry.remaining(now) for now in (100.0, 100.9, 101.0, 104.9, 105.0)] == [5, 5, 4, 1, 0]


def test_an_entry_goes_to_another_worker() -> None:
    """An entry keeps its remaining time on another worker's clock. Hits and retry times are not handed over."""
    old, new = store(), store()
    old.put(KEY, Entry(REPLY, 970.5, 60, is_answer=False, hits=3, retry_after=2000.0))
    moved(old, new, then=5.0)
    (entry,) = new.entries.values()
    assert (entry.reply, entry.stored, entry.lifetime, entry.is_answer) == (REPLY, -24.5, 60, False)
    assert (entry.remaining(5.0), entry.hits, entry.retry_after, entry.octets) == (31, 0, float("-inf"), old.octets)


def test_an_existing_entry_stays() -> None:
    """Moving entries into a new store does not overwrite an entry there, because that entry is newer."""
    old, new = store(), store()
    old.put(KEY, Entry(REPLY, 0.0, 60))
    new.put(KEY, Entry(Reply(), 0.0, 5))
    moved(old, new)
    assert new.entries[KEY].reply == Reply()


def test_entries_with_dependencies_stay_behind() -> None:
    """Entries with dependencies are not handed over, because the workers' cluster data may differ."""
    old, new = store(), store()
    old.put(KEY, Entry(Reply(dependencies=(("service", "d", "web"),)), 0.0, 60))
    moved(old, new)
    assert len(new) == 0


def test_the_newest_entries_go_over_to_a_smaller_store() -> None:
    """If the new store is smaller, the newest entries are moved, and older entries are dropped."""
    old, new = store(), store(allowance=20_000)
    for number in range(500):
        old.put((b"%d" % number, 1, 1, False, False), Entry(REPLY, 0.0, 60))
    moved(old, new)
    assert [int(key[0]) for key in new.entries] == list(range(500 - len(new), 500))
    assert new.octets <= 20_000


@pytest.mark.parametrize("portion", [b"", b"\xc1", msgspec.msgpack.encode([1, 2]), msgspec.msgpack.encode({})])
def test_an_invalid_wire_form(portion: bytes) -> None:
    """An encoded entry that is invalid raises DecodeError."""
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
def test_every_entry_comes_out_as_it_went_in(
    key: Key, sections: tuple[Section, Section, Section], lifetime: int
) -> None:
    """An entry is the same after encoding and decoding."""
    old, new = store(), store()
    answer, authority, additional = sections
    reply = Reply(0, RD, answer, authority, additional)
    old.put(key, Entry(reply, 1000.0, lifetime))
    moved(old, new)
    assert {key: (entry.reply, entry.stored, entry.lifetime) for key, entry in new.entries.items()} == {
        key: (reply, 0.0, lifetime)
    }
