"""A child process ends when its supervisor ends."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

CHILD = (
    "from svcdns.process.parent_death import die_with_parent; die_with_parent(); print('lives', flush=True); "
    "import signal; signal.pause()"
)


def start(parent: int) -> subprocess.Popen[str]:
    """Starts a child, and passes `parent` as the process id of its parent."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD],
        env={**os.environ, "SVCDNS_PARENT": str(parent)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_signals_of_a_terminal_are_ignored() -> None:
    """Only the supervisor handles signals such as that of Ctrl-C."""
    with start(os.getpid()) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "lives\n"
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1):
            child.send_signal(number)
        assert child.poll() is None
        child.kill()


def test_exits_if_the_parent_is_gone_already() -> None:
    """The parent may end before the child calls prctl(2)."""
    with start(1 if os.getppid() != 1 else 2) as child:
        assert child.wait(10) == 0
        assert child.stdout is not None
        assert child.stdout.read() == ""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's; elsewhere the channel's end does it alone")
def test_is_killed_when_the_parent_dies() -> None:
    middle = (
        "import os, subprocess, sys; "
        f"p = subprocess.Popen([sys.executable, '-c', {CHILD!r}], env={{**os.environ, 'SVCDNS_PARENT': str(os.getpid())}}, "
        "stdout=subprocess.PIPE, text=True); p.stdout.readline(); print(p.pid, flush=True); import signal; signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", middle], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        grandchild = int(parent.stdout.readline())
        descriptor = os.pidfd_open(grandchild)
        parent.kill()
        assert select.select([descriptor], [], [], 10)[0]
        os.close(descriptor)
