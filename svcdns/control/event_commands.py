"""Runs the commands of the plugin *on*, without a shell: when the server serves a Corefile, and when it stops.

A command that fails or does not exist is an ERROR in the log, and nothing else. Commands of one event run one after the
other; a command that ends with `&` is not waited for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final
from uuid import uuid4

from svcdns.plugin_api.settings import EventCommand

background: Final[set[asyncio.Task[int]]] = set()
"""Tasks that wait for the ends of commands, so that a command in the background leaves no zombie process."""


async def run_commands(commands: Iterable[EventCommand], event: str, log: logging.Logger) -> None:
    """Runs the commands for `event`, in their order, and waits for those that are to be waited for."""
    for command in commands:
        if command.event == event:
            await _run(command, log)


async def _run(command: EventCommand, log: logging.Logger) -> None:
    name = str(uuid4())
    how = "Blocking" if command.waits else "Nonblocking"
    log.info('%s Command "%s" with ID %s', how, " ".join(command.words), name)
    try:
        process = await asyncio.create_subprocess_exec(*command.words)
        waiting = asyncio.create_task(process.wait())
        background.add(waiting)
        waiting.add_done_callback(background.discard)
        code = await waiting if command.waits else 0
    except (OSError, ValueError) as error:  # ValueError: a word with a zero octet
        log.error("error on 'on-%s' hook: %s", name, error)
        return
    if code:
        status = f"exit status {code}" if code > 0 else f"signal {-code}"
        log.error("error on 'on-%s' hook: %s", name, status)
