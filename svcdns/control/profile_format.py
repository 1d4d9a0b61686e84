"""Profiles as the gzipped messages of the program pprof, and as collapsed stacks.

The field numbers are those of the public schema `perftools.profiles.Profile`.
A line of collapsed stacks has the functions of one stack, outermost caller first, separated by `;`, and the amount.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from svcdns.telemetry.profiles import Place, Sample
from svcdns.wire.protobuf import Field, encode

Profile = Mapping[str, Sequence[Sample]]
"""The samples of each process, by its name."""

CPU: Final = (("samples", "count"), ("cpu", "nanoseconds"))
EMPTY_TEXT: Final = b"\x32\x00"
"""The first text, which must be empty; `encode` leaves out a field without octets."""
HEAP: Final = (("objects", "count"), ("space", "bytes"))


def pprof(profile: Profile, kinds: tuple[tuple[str, str], ...], seconds: float, period: int) -> bytes:
    """Returns a profile as a gzipped message. `kinds` are names and units of `Sample.number` and `Sample.amount`.

    Each sample has the label `process`. `period` is the amount between two samples.
    """
    message = _Message().fields(profile, kinds, seconds, period)
    return gzip.compress(EMPTY_TEXT + encode(message), mtime=0)


def collapsed(profile: Profile) -> str:
    """Returns one line of text for each stack. The line begins with the name of the process."""
    lines = [
        ";".join([process, *(_name(place) for place in reversed(sample.stack))]) + f" {sample.amount}"
        for process, samples in profile.items()
        for sample in samples
    ]
    return "".join(line + "\n" for line in sorted(lines))


def _name(place: Place) -> str:
    module = place.file.rpartition("/")[2]
    return f"{module}:{place.function}" if place.function else f"{module}:{place.line}"


class _Message:
    """Makes one message. In the message, texts, functions and places have numbers."""

    def __init__(self) -> None:
        self._texts: dict[str, int] = {"": 0}
        self._functions: dict[tuple[str, str], int] = {}
        self._places: dict[Place, int] = {}

    def fields(
        self, profile: Profile, kinds: tuple[tuple[str, str], ...], seconds: float, period: int
    ) -> Iterable[Field]:
        types = [encode([(1, self._text(name)), (2, self._text(unit))]) for name, unit in kinds]
        samples = [self._sample(process, sample) for process, of_process in profile.items() for sample in of_process]
        places = [
            encode([(1, number), (4, encode([(1, self._function(place)), (2, place.line)]))])
            for place, number in self._places.items()
        ]
        functions = [
            encode([(1, number), (2, self._text(name)), (4, self._text(file))])
            for (name, file), number in self._functions.items()
        ]
        yield from ((1, one) for one in types)
        yield from ((2, one) for one in samples)
        yield from ((4, one) for one in places)
        yield from ((5, one) for one in functions)
        yield from ((6, text.encode()) for text in self._texts)
        yield 9, time.time_ns()
        yield 10, int(seconds * 1e9)
        yield 11, types[-1]
        yield 12, period

    def _sample(self, process: str, sample: Sample) -> bytes:
        label = encode([(1, self._text("process")), (2, self._text(process))])
        places = [(1, self._place(place)) for place in sample.stack]
        return encode([*places, (2, sample.number), (2, sample.amount), (3, label)])

    def _text(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))

    def _place(self, place: Place) -> int:
        return self._places.setdefault(place, len(self._places) + 1)

    def _function(self, place: Place) -> int:
        key = place.function or f"{place.file.rpartition('/')[2]}:{place.line}", place.file
        return self._functions.setdefault(key, len(self._functions) + 1)
