"""The queue that shares a worker's time fairly among clients."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.eventloop.fair_queue import MAX_DEBT, QUANTUM, FairQueue

MOST = 12
CLIENTS = st.sampled_from([b"a", b"b", b"c", b"d"])


def filled(**packets: int) -> FairQueue[tuple[bytes, int]]:
    """Returns a queue with packets of several clients. The packets of each client were added together."""
    queue: FairQueue[tuple[bytes, int]] = FairQueue(1000)
    for client, count in packets.items():
        for number in range(count):
            queue.add(client.encode(), (client.encode(), number))
    return queue


@given(st.lists(st.one_of(CLIENTS, st.none()), max_size=80))
def test_the_queue_equals_a_model_of_plain_lists(steps: list[bytes | None]) -> None:
    """If the queue is full, the client with the most packets loses its newest packet. A step adds a packet of
    its client, or removes a packet if the step is None.
    """
    queue: FairQueue[tuple[bytes, int]] = FairQueue(MOST)
    model: dict[bytes, list[tuple[bytes, int]]] = {}
    for number, client in enumerate(steps):
        if client is None:
            if queue.turns:
                item = queue.pop()
                assert model[item[0]].pop(0) == item
                queue.charge(QUANTUM)
        else:
            item = (client, number)
            full = sum(map(len, model.values())) == MOST
            longest = max(map(len, model.values()), default=0)
            dropped = queue.add(client, item)
            assert (dropped is not None) is full
            own = model.setdefault(client, [])
            if not full:
                own.append(item)
            elif max(len(own), 1) < longest:
                lengths = Counter({key: len(one) for key, one in model.items()})
                victims = [key for key in model if lengths[key] == longest]
                lost = next(key for key in victims if len(queued(queue, key)) < longest)
                model[lost].pop()
                own.append(item)
                assert dropped == lost
            else:
                assert dropped == client
        assert len(queue) == sum(map(len, model.values())) <= MOST
        assert all(queued(queue, key) == items for key, items in model.items())
    assert bool(queue.turns) == bool(len(queue))


def queued(queue: FairQueue[tuple[bytes, int]], client: bytes) -> list[tuple[bytes, int]]:
    return next((list(one.items) for one in queue.turns if one.key == client), [])


@pytest.mark.parametrize(
    ("costs", "shares"),
    [
        ({"a": 1, "b": 1}, {"a": 1, "b": 1}),
        ({"a": 10, "b": 1}, {"a": 1, "b": 10}),
        ({"a": 3, "b": 1}, {"a": 1, "b": 3}),
    ],
    ids=["equal", "ten times", "three times"],
)
def test_each_client_gets_the_same_time(costs: dict[str, int], shares: dict[str, int]) -> None:
    """The more time a client's packets take, the fewer of its packets are answered."""
    queue = filled(a=400, b=400)
    answered: Counter[str] = Counter()
    while min(len(queued(queue, key.encode())) for key in costs):
        client = queue.pop()[0].decode()
        answered[client] += 1
        queue.charge(costs[client] * QUANTUM / 2)
    assert answered["a"] / answered["b"] == pytest.approx(shares["a"] / shares["b"], rel=0.1)


def test_a_client_with_one_packet_passes_a_flood() -> None:
    """At most one turn of the client with many packets comes first."""
    queue = filled(flood=500, other=1)
    before = 0
    while queue.pop()[0] == b"flood":
        before += 1
        queue.charge(QUANTUM / 10)
    assert before <= 11


def test_the_debt_of_a_client_is_bounded() -> None:
    """A client with a very expensive packet gets its next turn after a bounded time."""
    queue = filled(a=2, b=100)
    assert queue.pop()[0] == b"a"
    queue.charge(1000.0)
    turns = 0
    while queue.pop()[0] == b"b":
        queue.charge(QUANTUM)
        turns += 1
    assert turns <= MAX_DEBT / QUANTUM + 1


def test_a_full_queue_of_single_packets_refuses_a_new_client() -> None:
    queue: FairQueue[int] = FairQueue(3)
    assert [queue.add(bytes((n,)), n) for n in range(5)] == [None, None, None, b"\3", b"\4"]
    assert [queue.pop() for _ in range(3)] == [0, 1, 2]
    with pytest.raises(IndexError):
        queue.pop()
