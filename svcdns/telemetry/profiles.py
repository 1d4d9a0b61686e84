"""Profiles of the process that calls: processor time by sampling, memory by tracemalloc, and the stacks of all tasks.

Nothing runs and nothing is imported until a profile is requested.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from types import FrameType
from typing import Final, NamedTuple

from svcdns.errors import SvcdnsError

PERIOD: Final = 0.01
"""Seconds of processor time between two samples."""
MAX_SECONDS: Final = 120.0
DEPTH: Final = 64
"""The most functions of a stack."""
MOST_STACKS: Final = 5000
"""The most stacks in a profile; those with the smallest values are left out."""
HEAP_DEPTH: Final = 16
"""The most functions of a stack that tracemalloc keeps for each block of memory."""


class ProfileError(SvcdnsError):
    """Raised if a profile is already being made in this process, or if its time is out of range."""


class Place(NamedTuple):
    """A function on a stack, with its file and the number of the line that runs."""

    function: str
    file: str
    line: int


class Sample(NamedTuple):
    """A stack, from the function that ran to its outermost caller.

    `number` is the number of samples, or of blocks of memory. `amount` is nanoseconds of processor time, or octets.
    """

    stack: tuple[Place, ...]
    number: int
    amount: int


async def cpu(seconds: float) -> list[Sample]:
    """Returns where this process spent processor time in the next `seconds`. Raises ProfileError.

    The kernel interrupts the main thread after each PERIOD of processor time of the process. Python runs the handler
    between two instructions, so time in C code counts for the function that called it.
    """
    _check(seconds)
    if signal.getsignal(signal.SIGPROF) not in (signal.SIG_DFL, None):
        raise ProfileError("a profile of the processor time is already being made")
    found: Counter[tuple[Place, ...]] = Counter()

    def note(_number: int, frame: FrameType | None) -> None:
        found[tuple(_places(frame))] += 1

    signal.signal(signal.SIGPROF, note)
    signal.setitimer(signal.ITIMER_PROF, PERIOD, PERIOD)
    try:
        await asyncio.sleep(seconds)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
    return [Sample(stack, count, int(count * PERIOD * 1e9)) for stack, count in found.most_common(MOST_STACKS)]


async def heap(seconds: float) -> list[Sample]:
    """Returns the memory that was allocated in the next `seconds` and is still in use. Raises ProfileError.

    tracemalloc makes the process slower for this time.
    """
    _check(seconds)
    import tracemalloc  # here, because a plain server does not need it

    if tracemalloc.is_tracing():
        raise ProfileError("a profile of the memory is already being made")
    tracemalloc.start(HEAP_DEPTH)
    try:
        await asyncio.sleep(seconds)
        statistics = tracemalloc.take_snapshot().statistics("traceback")
    finally:
        tracemalloc.stop()
    return [
        Sample(tuple(Place("", frame.filename, frame.lineno) for frame in reversed(one.traceback)), one.count, one.size)
        for one in statistics[:MOST_STACKS]
    ]


def stacks() -> str:
    """Returns the stacks of all tasks of the running event loop and of all threads, as text."""
    parts = [_task(task) for task in sorted(asyncio.all_tasks(), key=lambda task: task.get_name())]
    threads = sys._current_frames()  # noqa: SLF001  documented for debuggers
    parts += [f"thread {number}\n{''.join(traceback.format_stack(frame))}" for number, frame in threads.items()]
    return "\n".join(parts)


def _check(seconds: float) -> None:
    if not 0 < seconds <= MAX_SECONDS:
        raise ProfileError(f"the time of a profile is more than 0 and at most {MAX_SECONDS:g} seconds")


def _places(frame: FrameType | None) -> Iterator[Place]:
    for _ in range(DEPTH):
        if frame is None:
            return
        code = frame.f_code
        yield Place(code.co_qualname, code.co_filename, frame.f_lineno or code.co_firstlineno)
        frame = frame.f_back


def _task(task: asyncio.Task[object]) -> str:
    stack = "".join(line for frame in task.get_stack() for line in traceback.format_stack(frame, limit=1))
    return f"task {task.get_name()} {task.get_coro()!r}\n{stack}"
