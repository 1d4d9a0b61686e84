"""The fields by which the program knows where to look for denials."""

from __future__ import annotations

import pytest

from svcdns.accelerator.denial_filter import DenialFilter
from svcdns.accelerator.layout import DENIAL_DEPTHS, DENIAL_LABELS_AT, STATE_SIZE, label_bit

END = b"r\5local\0"
FIRST, SECOND = b"0123456789\4\3com\7default", b"0123456789\5\3com\7default"


@pytest.fixture
def memory() -> bytearray:
    return bytearray(STATE_SIZE)


def test_the_last_denial_with_a_label_clears_its_bit(memory: bytearray) -> None:
    found = DenialFilter(memoryview(memory).cast("Q"), memoryview(memory).cast("I"))
    bit = label_bit(FIRST)
    at = DENIAL_LABELS_AT + bit // 8
    for key in (FIRST, SECOND):
        assert found.add(key, END, 5)
    assert label_bit(SECOND) == bit
    for key in (FIRST, SECOND):
        assert memory[at] == 1 << bit % 8
        found.remove(key)
    assert memory[at] == 0
    assert memory[DENIAL_DEPTHS] == 1 << 5


def test_clear_leaves_nothing(memory: bytearray) -> None:
    found = DenialFilter(memoryview(memory).cast("Q"), memoryview(memory).cast("I"))
    assert [found.add(FIRST, bytes([turn]) * 8, 5) for turn in range(5)] == [True] * 4 + [False]
    assert any(memory)
    found.clear()
    assert not any(memory)
    assert found.add(FIRST, END, 5)
