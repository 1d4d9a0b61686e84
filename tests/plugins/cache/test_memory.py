"""The computed memory use of cache entries, and the eviction of entries above the limit."""

from __future__ import annotations

import gc
import tracemalloc

import dns.message
import dns.rrset
import pytest

from svcdns.plugin_api.reply import Reply
from svcdns.plugins.cache.entry import Entry
from svcdns.plugins.cache.memory import MemoryBudget
from svcdns.plugins.cache.store import Store
from svcdns.wire.message import parse_message


class FixedSize:
    """A store whose size the test sets. Each eviction removes one octet."""

    def __init__(self, budget: MemoryBudget, octets: int) -> None:
        """Creates a store of `octets` octets that shares the budget."""
        self._pool, self.octets = budget, octets
        budget.stores.append(self)
        budget.octets += octets

    def evict(self) -> None:
        self.octets -= 1
        self._pool.octets -= 1


def test_the_largest_store_evicts() -> None:
    """The largest store evicts entries until the sum of all stores is within the limit. A new limit applies after
    `update_limit`.
    """
    allowance = 100
    budget = MemoryBudget(lambda: allowance)
    large, small = FixedSize(budget, 90), FixedSize(budget, 10)
    assert not budget.is_exceeded()
    assert budget.is_exceeded(1)
    allowance = 50
    assert not budget.is_exceeded()
    budget.update_limit()
    while budget.is_exceeded():
        budget.evict()
    assert (large.octets, small.octets) == (40, 10)
    budget.octets = 0
    assert not budget.is_exceeded(1000)


@pytest.mark.parametrize(
    ("rdata", "count", "owned"),
    [
        pytest.param(["A", "192.0.2.1"], 2000, False, id="an address"),
        pytest.param(["A", *[f"192.0.2.{number}" for number in range(12)]], 500, False, id="twelve addresses"),
        pytest.param(["TXT", *[f'"{number:02}{"x" * 200}"' for number in range(20)]], 250, False, id="texts"),
        pytest.param(["A", "192.0.2.1"], 1000, True, id="resting on a fact"),
    ],
)
def test_computed_memory_is_close_to_measured_memory(rdata: list[str], count: int, owned: bool) -> None:
    """The computed memory is at most a quarter above, and a tenth below, the measured memory."""
    packets = [answered(f"name-{number}.some.example.org.", *rdata) for number in range(count)]
    store = Store(100_000, MemoryBudget(lambda: 1 << 30), lambda: None)
    gc.collect()
    tracemalloc.start()
    for number, packet in enumerate(packets):
        message = parse_message(packet)
        dependencies = (("service", "somewhere", f"name-{number}"),) if owned else ()
        reply = Reply(flags=message.flags, answer=message.answer, dependencies=dependencies)
        store.put((message.name.lower(), message.rtype, 1, False, False), Entry(reply, float(number), 300))
    del message, reply
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert 0.75 * store.octets < taken < 1.1 * store.octets


def answered(name: str, rtype: str, *rdata: str) -> bytes:
    reply = dns.message.make_response(dns.message.make_query(name, rtype))
    reply.answer.append(dns.rrset.from_text(name, 300, "IN", rtype, *rdata))
    return reply.to_wire()
