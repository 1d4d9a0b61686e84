"""The data that the control process sends to the workers."""

from __future__ import annotations

from svcdns.plugins.etcd import shards
from svcdns.plugins.etcd.service import Entry, Service
from svcdns.plugins.etcd.shards import SHARDS, State


def test_what_is_sent_is_received() -> None:
    entries = [Entry("/a", Service("h", makes_mx=True), 5), Entry("/b", Service(), 0, "why")]
    assert shards.decode_entries(shards.encode_entries(entries)) == entries
    assert shards.decode_state(shards.encode_state(State(7, "p", 2, 1))) == State(7, "p", 2, 1)
    assert shards.decode_leases(shards.encode_leases({2**62: 5})) == {2**62: 5}


def test_keys_are_spread_over_the_shards() -> None:
    found = {shards.shard_of(b"/skydns/%d" % number) for number in range(10 * SHARDS)}
    assert found <= set(range(SHARDS))
    assert len(found) > SHARDS * 0.9
    assert len({shards.shard_key("a", 1), shards.shard_key("b", 1), shards.state_key("a"), shards.leases_key("a")}) == 4
