"""Records the times of the steps of a change, from the API server to the answers: `python -m bench change --stamps`.

This file is run in place of svcdns. The file starts svcdns with wrappers around the functions of each step. A stamp is
a line in the file that the environment variable STAMPS names: the step, and the time on CLOCK_MONOTONIC.
"""

import functools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if __name__ != "__main__":
    from bench import peers

STAMPS = "SVCDNS_BENCH_STAMPS"
"""The environment variable with the path of the file of stamps."""
STEPS = ("read", "decoded", "view", "encoded", "woken", "applied", "invalidated")
"""The steps in their order.

Control has read the octets of the event, has decoded them, and has updated its view; it has encoded the frame for a
worker. The worker has received it, has applied the change to its index, and has dropped the replies.
"""


Change = tuple[float, float]
"""The times on CLOCK_MONOTONIC when a change was requested, and when a response had it."""


@contextmanager
def stamping(path: Path, *, on: bool) -> Iterator[Callable[[list[Change]], list[float]]]:
    """Context manager: if `on` is true, svcdns is started with stamps, which are written to `path`.

    Yields a function that returns the median duration of each step in seconds, from a list of changes. The last item is
    the time from the last step to the response.
    """
    plain = peers.svcdns

    def stamped(config: peers.ServerConfig, folder: Path) -> list[str]:
        return [sys.executable, "-I", __file__, *plain(config, folder)[4:]]

    def medians(changes: list[Change]) -> list[float]:
        stamps = [(step, float(at)) for step, at in map(str.split, path.read_text().splitlines())]
        rows = [row for row in (_intervals(stamps, *change) for change in changes) if row]
        return [statistics.median(column) for column in zip(*rows, strict=True)]

    if on:
        os.environ[STAMPS] = str(path)
        peers.CONFIGURED["svcdns"] = stamped
    try:
        yield medians
    finally:
        os.environ.pop(STAMPS, None)
        peers.CONFIGURED["svcdns"] = plain


def _intervals(stamps: Iterable[tuple[str, float]], begin: float, end: float) -> list[float]:
    """Returns the seconds of each step of one change. Returns an empty list if a stamp is missing."""
    within = [(step, at) for step, at in stamps if begin <= at <= end]
    found: list[float] = []
    before = begin
    for step in STEPS:
        at = next((at for name, at in within if name == step and at >= before), None)
        if at is None:
            return []
        found.append(at - before)
        before = at
    return [*found, end - before]


def _wrap(owner: type, name: str, step: str, *, before: bool = False) -> None:
    """Adds a stamp to each call of a method, at its begin if `before` is true, otherwise at its end."""
    function: Callable[..., Any] = getattr(owner, name)

    def wrapper(*arguments: Any, **named: Any) -> Any:
        if before:
            _stamp(step)
            return function(*arguments, **named)
        result = function(*arguments, **named)
        _stamp(step)
        return result

    setattr(owner, name, wrapper)


_last: dict[str, float] = {}


def _stamp(step: str) -> None:
    """Records the time of a step. The lines are written after the last step of a process."""
    _last[step] = time.monotonic()
    if step in ("encoded", "invalidated"):
        os.write(_file(), "".join(f"{name} {at:.9f}\n" for name, at in _last.items()).encode())
        _last.clear()


@functools.cache
def _file() -> int:
    """Opens the file of stamps, if it is not open yet."""
    return os.open(os.environ[STAMPS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def _instrument(program: str) -> None:
    if program == "svcdns.control":
        from svcdns.control.cluster_view import ClusterView
        from svcdns.control.feed_queue import FeedQueue
        from svcdns.sources.api.http_client import _Stream
        from svcdns.sources.api.reflector import Reflector

        _wrap(_Stream, "data_received", "read", before=True)
        _wrap(Reflector, "_read", "decoded")
        _wrap(ClusterView, "apply", "view")
        _wrap(FeedQueue, "_next_frames", "encoded")
    elif program == "svcdns.worker":
        from svcdns.worker.worker import Worker

        _wrap(Worker, "receive", "woken", before=True)
        _wrap(Worker, "_invalidate", "applied", before=True)
        _wrap(Worker, "_invalidate", "invalidated")


def _main() -> None:
    here = str(Path(__file__).resolve())
    program = sys.argv[1]
    if program.startswith("svcdns."):  # a child of the supervisor, started without site-packages
        import site

        sys.path.append(str(Path(here).parent.parent))
        site.main()
        _instrument(program)
    from svcdns.process import isolated

    isolated._SCRIPT = here  # noqa: SLF001 - the supervisor starts its children through this file
    if program.startswith("svcdns."):
        import runpy

        del sys.argv[0]
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        from svcdns.__main__ import main

        sys.exit(main())


if __name__ == "__main__":
    _main()
