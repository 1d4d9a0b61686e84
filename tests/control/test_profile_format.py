"""Profiles as messages of pprof, and as collapsed stacks."""

from __future__ import annotations

import gzip

from svcdns.control.profile_format import CPU, HEAP, collapsed, pprof
from svcdns.telemetry.profiles import Place, Sample
from svcdns.wire.protobuf import decode

INNER, OUTER = Place("Table.find", "/app/table.py", 7), Place("run", "/app/loop.py", 3)
PROFILE = {"worker 0": [Sample((INNER, OUTER), 2, 20), Sample((OUTER,), 1, 10)], "control": [Sample((OUTER,), 5, 50)]}


def test_the_message_has_samples_with_their_process() -> None:
    fields = list(decode(gzip.decompress(pprof(PROFILE, CPU, 1.5, 10))))
    texts = [value.decode() for number, value in fields if number == 6 and isinstance(value, bytes)]
    assert texts[0] == ""
    assert {"samples", "cpu", "nanoseconds", "process", "worker 0", "control", "Table.find", "/app/table.py"} <= set(
        texts
    )
    samples = [list(decode(value)) for number, value in fields if number == 2 and isinstance(value, bytes)]
    assert [[value for number, value in sample if number == 2] for sample in samples] == [[2, 20], [1, 10], [5, 50]]
    assert [sum(number == 1 for number, _ in sample) for sample in samples] == [2, 1, 1]
    assert [value for number, value in fields if number in (10, 12)] == [1_500_000_000, 10]
    places = [dict(decode(value)) for number, value in fields if number == 4 and isinstance(value, bytes)]
    assert len(places) == len([number for number, _ in fields if number == 5]) == 2


def test_a_place_without_a_function_has_its_line_as_name() -> None:
    """As tracemalloc reports them."""
    profile = {"control": [Sample((Place("", "/app/a.py", 9),), 1, 64)]}
    fields = list(decode(gzip.decompress(pprof(profile, HEAP, 1, 1))))
    assert b"a.py:9" in [value for number, value in fields if number == 6]
    assert collapsed(profile) == "control;a.py:9 64\n"


def test_collapsed_stacks_begin_with_the_process() -> None:
    assert collapsed(PROFILE) == (
        "control;loop.py:run 50\nworker 0;loop.py:run 10\nworker 0;loop.py:run;table.py:Table.find 20\n"
    )
