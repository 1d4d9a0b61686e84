"""The slots of a pool: their octets, and their uses."""

from __future__ import annotations

import mmap

import pytest

from svcdns.accelerator.layout import (
    FOREVER,
    HEAD,
    HEAD_FIELDS,
    KEY_AT,
    KEY_MAX,
    NAME_AT,
    OFFSETS,
    OFFSETS_SIZE,
    SMALL_SIZE,
    TAIL_AT,
    TTLS,
    USES_AT,
)
from svcdns.accelerator.slot_pool import USES_STEP, Replies, SlotPool, kept_end

QUESTION = b"\3web\0\0\1\0\1"
OPT = b"\0\0\x29\4\xd0\0\0\0\0\0\0"
KEY = b"\1\0\0\1\0\0\0\0\0\1" + QUESTION + OPT
HEADER = b"\x81\x80\0\1\0\1\0\0\0\1"
RECORD = b"\xc0\x0c\0\1\0\1\0\0\0\5\0\4\x0a\0\0\1"
REPLY = HEADER + QUESTION + RECORD + OPT
SLOTS = USES_STEP + 10


@pytest.mark.parametrize(
    ("key", "wire", "expected"),
    [
        pytest.param(KEY, REPLY, NAME_AT + len(QUESTION), id="question"),
        pytest.param(KEY, HEADER + QUESTION.upper() + RECORD, NAME_AT + 1, id="another case"),
        pytest.param(
            KEY, HEADER + QUESTION + OPT[:4] + RECORD, NAME_AT + len(QUESTION) + 4, id="more than the question"
        ),
        pytest.param(KEY, KEY + RECORD, len(KEY), id="the whole key"),
        pytest.param(KEY, KEY, len(KEY) - 2, id="two octets stay"),
        pytest.param(KEY, HEADER + b"\0" * 30, NAME_AT, id="nothing"),
        pytest.param(b"key", bytes(40), NAME_AT, id="a short key"),
    ],
)
def test_kept_end(key: bytes, wire: bytes, expected: int) -> None:
    """The packet keeps these octets, so key and reply must have the same ones. Each reply has a tail."""
    found = kept_end(key, wire)
    assert found == expected
    assert wire[NAME_AT:found] == key[NAME_AT:found]
    assert len(wire) - found >= 2


def replies(*wires: bytes, offsets: tuple[tuple[int, ...], ...] = ()) -> Replies:
    return Replies(KEY, KEY, wires, NAME_AT + len(QUESTION), 3, FOREVER, 0, offsets)


def test_a_slot_has_all_octets_of_the_reply_that_the_packet_lacks() -> None:
    memory = mmap.mmap(-1, SMALL_SIZE * SLOTS)
    pool = SlotPool(memory, SMALL_SIZE, SLOTS)
    pool.write((4, 7), replies(REPLY, REPLY[:-1], offsets=((30,), (31, 32))), 9)
    second, first = (memory[slot * SMALL_SIZE : (slot + 1) * SMALL_SIZE] for slot in (7, 4))
    heads = [dict(zip(HEAD_FIELDS, HEAD.unpack_from(slot), strict=True)) for slot in (first, second)]
    assert [(head["rotations"], head["ttls"], head["tail_len"]) for head in heads] == [(2, 1, 27), (1, 2, 26)]
    assert {(head["serial"], head["hit_counter"], head["table"], head["header"]) for head in heads} == {
        (2, 9, 3, HEADER)
    }
    assert first[KEY_AT : KEY_AT + KEY_MAX] == KEY.ljust(KEY_MAX, b"\0")
    tail = first[TAIL_AT : TAIL_AT + heads[0]["tail_len"]]
    assert heads[0]["header"] + KEY[NAME_AT : heads[0]["kept_end"]] + tail == REPLY
    offsets = [OFFSETS.unpack_from(slot, SMALL_SIZE - OFFSETS_SIZE) for slot in (first, second)]
    assert [found[:3] for found in offsets] == [(30, 0, 0), (31, 32, 0)]
    assert offsets[0][TTLS : TTLS + 3] == (4, 7, 0)
    pool.close()
    memory.close()


def test_the_uses_of_an_earlier_entry_do_not_count_for_a_new_one() -> None:
    memory = mmap.mmap(-1, SMALL_SIZE * SLOTS)
    pool = SlotPool(memory, SMALL_SIZE, SLOTS)

    def use(slot: int, times: int) -> None:
        at = slot * SMALL_SIZE + USES_AT
        memory[at : at + 8] = (int.from_bytes(memory[at : at + 8], "little") + times).to_bytes(8, "little")

    use(1, 3)
    use(SLOTS - 1, 4)
    assert list(pool.take_uses()) == [[(1, 3)], [(SLOTS - 1, 4)]]
    assert list(pool.take_uses()) == []
    use(1, 2)
    pool.write((1,), replies(REPLY), 0)
    use(1, 1)
    assert list(pool.take_uses()) == [[(1, 1)]]
    pool.close()
    memory.close()
