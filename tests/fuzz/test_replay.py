"""Runs the stored inputs of every fuzzing target: seeds, the corpus, and each input that once showed a fault."""

from __future__ import annotations

import pytest

from tests.fuzz.target import execute, inputs
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_the_stored_inputs_of_a_target(name: str) -> None:
    found = inputs(TARGETS[name])
    assert found
    for data in found:
        execute(TARGETS[name], data)
