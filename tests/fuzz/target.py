"""Fuzzing targets: their definition, the execution of one input, and the places of stored inputs.

The inputs of a target are text files with one Python bytes literal a line. `corpus/NAME.txt` has inputs that reach much
of the code. `crashes/NAME.txt` has every input that once showed a fault. A line that begins with `#` is a comment.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import thread_time
from typing import Final

from tests.fuzz.mutation import Mutator

FOLDER: Final = Path(__file__).parent
SECONDS: Final = 0.5
"""The CPU seconds that one input may take. An ordinary input takes less than a millisecond."""


class TooSlowError(AssertionError):
    """An input took more than SECONDS of CPU time."""


@dataclass(frozen=True, slots=True)
class Target:
    """A fuzzing target: a function that gets octets from outside, and its first inputs.

    `run` raises an exception only if the code under test breaks a rule. `seeds` returns the inputs that a script makes.
    `max_octets` is the maximum size of an input. `words` are words of the format, for the fuzzer. `mutate` changes an
    input and keeps its structure.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    max_octets: int = 512
    words: tuple[str, ...] = ()
    mutate: Mutator | None = None


def execute(target: Target, data: bytes) -> None:
    """Runs the target on one input. Raises TooSlowError, and every exception of the target.

    A slow input is run a second time, because the first run may have imported modules.
    """
    for last in (False, True):
        began = thread_time()
        target.run(data)
        took = thread_time() - began
        if took <= SECONDS:
            return
        if last:
            raise TooSlowError(f"{len(data)} octets took {took:.1f} s")


def stored(name: str) -> Iterator[bytes]:
    """Yields the stored inputs of the target `name`: first the corpus, then the inputs that once showed a fault."""
    for folder in ("corpus", "crashes"):
        path = FOLDER / folder / f"{name}.txt"
        for line in path.read_text().splitlines() if path.exists() else ():
            if line and not line.startswith("#"):
                value = ast.literal_eval(line)
                assert isinstance(value, bytes)
                yield value


def inputs(target: Target) -> list[bytes]:
    """Returns all stored inputs and seeds of the target."""
    return list(dict.fromkeys([*target.seeds(), *stored(target.name)]))
