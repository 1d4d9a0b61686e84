"""A process that ends without the clean-up of the interpreter."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import atexit, sys
from svcdns.process.quick_exit import exit_quickly
atexit.register(print, "clean-up")
print("output")
print("error", file=sys.stderr)
exit_quickly(3)
"""


def test_output_is_written_and_nothing_else_runs() -> None:
    """Output is flushed, and the exit code is that of the call. Functions of `atexit` are not called."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "output\n", "error\n")
