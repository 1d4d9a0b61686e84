"""What a fuzzing target is, how one input is executed, and where the stored inputs are.

The inputs of a target are text files with one Python bytes literal a line: `corpus/NAME.txt` has inputs that reach much
of the code, and `crashes/NAME.txt` has every input that once showed a fault. A line that begins with `#` is a comment.
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
    """An input took more CPU time than SECONDS."""


@dataclass(frozen=True, slots=True)
class Target:
    """A function that gets octets from outside, and the inputs to begin with.

    `run` raises nothing, unless the code under test breaks a rule. `seeds` returns the inputs that a script makes.
    `max_octets` is the size of the longest input that a fuzzer should try. `words` are words of the format that a
    fuzzer should use. `mutate` changes an input and keeps its structure.
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    max_octets: int = 512
    words: tuple[str, ...] = ()
    mutate: Mutator | None = None


def execute(target: Target, data: bytes) -> None:
    """Runs the target on one input. Raises TooSlowError, and whatever the target raises.

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
    """Yields the inputs in the repository for the target `name`: those of the corpus, then those of found faults."""
    for folder in ("corpus", "crashes"):
        path = FOLDER / folder / f"{name}.txt"
        for line in path.read_text().splitlines() if path.exists() else ():
            if line and not line.startswith("#"):
                value = ast.literal_eval(line)
                assert isinstance(value, bytes)
                yield value


def inputs(target: Target) -> list[bytes]:
    """Returns all inputs of the target that are known before a fuzzer runs."""
    return list(dict.fromkeys([*target.seeds(), *stored(target.name)]))
