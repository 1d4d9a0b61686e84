"""Entry point of the control process: `svcdns.control --options JSON --region N --channel FD --shared FD`.

The supervisor starts the process by `svcdns.process.isolated`. What control does is in `process`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import socket
import sys
from pathlib import Path

from svcdns.control import cookie_file
from svcdns.control.process import Control
from svcdns.control.setups import Options
from svcdns.process import cookie_secrets
from svcdns.process.blocking_io import BlockingCalls
from svcdns.process.channel import Channel
from svcdns.process.parent_death import die_with_parent
from svcdns.process.shared_memory import regions
from svcdns.telemetry import logging as log_lines

GC_THRESHOLD = 5_000
"""Allocations between two runs of the garbage collector: more than the default, as cluster objects form few cycles."""
SWITCH_INTERVAL = 0.001
"""The seconds for which a thread that reads files may run while the event loop waits; Python's default is 5 ms."""
NICE = 15
"""The nice value of control. On a processor shared with workers, queries cannot wait, but changes of the cluster can.

A first start is not nice, because there are no queries yet, and every moment without DNS counts.
"""


def main() -> int:
    """Reads the command line, runs the control process until it ends, and returns the exit code."""
    parser = argparse.ArgumentParser(prog="svcdns.control")
    parser.add_argument("--options", required=True)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--beside", action="store_true")
    parser.add_argument("--region", type=int, required=True)
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--shared", type=int, required=True)
    arguments = parser.parse_args()
    die_with_parent()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 10, 10)
    sys.setswitchinterval(SWITCH_INTERVAL)
    log = log_lines.set_up()
    options = Options(
        **json.loads(arguments.options), again=arguments.again or arguments.beside, beside=arguments.beside
    )
    channel = Channel(socket.socket(fileno=arguments.channel))
    try:
        return asyncio.run(_run(options, channel, arguments.shared, arguments.region))
    finally:
        log.close()


async def _run(options: Options, channel: Channel, shared: int, own: int) -> int:
    control = Control(options, channel, regions(shared), own, lambda: os.nice(NICE))
    path = os.environ.get(cookie_file.VARIABLE)
    if not path:
        return await control.run()
    page, calls = cookie_secrets.page(shared), BlockingCalls(cookie_file.log)
    following = asyncio.create_task(cookie_file.follow(Path(path), page, calls))
    try:
        return await control.run()
    finally:
        following.cancel()


if __name__ == "__main__":
    sys.exit(main())
