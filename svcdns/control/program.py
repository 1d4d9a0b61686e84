"""Runs the control process after its command line has been read: starts the event loop and the log."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from pathlib import Path
from typing import Final

from svcdns.control import cookie_file
from svcdns.control.priority import Priority
from svcdns.control.process import Control
from svcdns.control.setups import Options
from svcdns.process import cookie_secrets, sample_memory
from svcdns.process.blocking_io import BlockingCalls
from svcdns.process.channel import Channel
from svcdns.process.shared_memory import regions
from svcdns.telemetry import logging as log_lines

GC_THRESHOLD: Final = 5_000
"""Allocations between two runs of the garbage collector: more than the default, as cluster objects form few cycles."""
SWITCH_INTERVAL: Final = 0.001
"""The seconds for which a thread that reads files may run while the event loop waits; Python's default is 5 ms."""


def run(options: Options, channel: Channel, shared: int, own: int) -> int:
    """Runs control until it ends, and returns the exit code.

    `shared` is the descriptor of the shared memory, and `own` is the number of control's region in it.
    """
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 10, 10)
    sys.setswitchinterval(SWITCH_INTERVAL)
    log = log_lines.set_up()
    try:
        return asyncio.run(_run(options, channel, shared, own))
    finally:
        log.close()


async def _run(options: Options, channel: Channel, shared: int, own: int) -> int:
    every = regions(shared)
    control = Control(options, channel, every, own, Priority(), sample_memory.WorkerRings(shared, every))
    path = os.environ.get(cookie_file.VARIABLE)
    if not path:
        return await control.run()
    page, calls = cookie_secrets.page(shared), BlockingCalls(cookie_file.log)
    following = asyncio.create_task(cookie_file.follow(Path(path), page, calls))
    try:
        return await control.run()
    finally:
        following.cancel()
