"""Running the commands of *on*."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from pathlib import Path

import pytest

from svcdns.control.event_commands import background, run_commands
from svcdns.plugin_api.settings import EventCommand

log = logging.getLogger("svcdns")


def python(code: str, event: str = "startup", *, waits: bool = True) -> EventCommand:
    """Returns a command that runs Python code."""
    return EventCommand(event, (sys.executable, "-c", code), waits=waits)


async def test_commands_of_an_event_run_in_their_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Only the commands of the event run, each after the one before. Each has a line in the log."""
    caplog.set_level(logging.INFO, "svcdns")
    out = tmp_path / "out"
    commands = [
        python(f"open({str(out)!r}, 'a').write('one')"),
        python(f"open({str(out)!r}, 'a').write('no')", "shutdown"),
        python(f"open({str(out)!r}, 'a').write(' two')"),
    ]
    await run_commands(commands, "startup", log)
    assert out.read_text() == "one two"
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition(sys.executable)[0] for line in lines] == ['Blocking Command "'] * 2


async def test_a_command_that_fails_is_an_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The commands after a command that fails run nevertheless."""
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    await run_commands(
        [EventCommand("startup", ("/no/such/program",)), python("exit(3)"), python(kill)], "startup", log
    )
    found = [re.sub(r"'on-[0-9a-f-]{36}'", "ID", r.getMessage()) for r in caplog.records if r.levelname == "ERROR"]
    assert found == [
        "error on ID hook: [Errno 2] No such file or directory: '/no/such/program'",
        "error on ID hook: exit status 3",
        "error on ID hook: signal 9",
    ]


async def test_a_command_in_the_background(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A command in the background is not waited for: it ends only when this test lets it."""
    caplog.set_level(logging.INFO, "svcdns")
    gate = tmp_path / "gate"
    waiting = f"import time, pathlib\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)"
    await run_commands([python(waiting, waits=False)], "startup", log)
    (running,) = background
    assert not running.done()
    gate.touch()
    await asyncio.wait_for(running, 10)
    assert caplog.records[0].getMessage().startswith("Nonblocking Command ")
