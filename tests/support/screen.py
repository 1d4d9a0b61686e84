"""A pseudo-terminal that runs `svcdns` with arguments, for tests that press keys and read the screen."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from typing import Any, Self

_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
TIMEOUT = 40.0


class Screen:
    """A terminal of 80 x 24 cells. `output` is everything that the program has written."""

    def __init__(self, arguments: list[str], **environ: str) -> None:
        self._master, self._slave = pty.openpty()
        self._size(80, 24)
        self.mode_before = self.mode()
        self.output = ""
        unset = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "svcdns", *arguments],
            stdin=self._slave, stdout=self._slave, stderr=self._slave, start_new_session=True,
            env={**{k: v for k, v in os.environ.items() if k not in unset}, "TERM": "xterm-256color", **environ},
        )  # fmt: skip

    def __enter__(self) -> Self:
        """Begins to read the output."""
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    def __exit__(self, *_: object) -> None:
        """Kills the program if it is still running."""
        asyncio.get_running_loop().remove_reader(self._master)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._slave)
        os.close(self._master)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            self.output += os.read(self._master, 65536).decode(errors="replace").replace("\r\n", "\n")

    def mode(self) -> list[Any]:
        """Returns the attributes of the terminal."""
        return termios.tcgetattr(self._slave)

    def frame(self) -> str:
        """Returns the text of the last complete screen."""
        frames = [_SEQUENCE.sub("", one) for one in self.output.split("\x1b[H")]
        return frames[-1]

    def press(self, text: str) -> None:
        os.write(self._master, text.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Changes the size, and tells the program."""
        self._size(columns, lines)
        self.process.send_signal(signal.SIGWINCH)

    def _size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    async def until(self, *texts: str, without: str = "\0", lines: int = 0) -> None:
        """Waits for a screen with all texts, and not with `without`. It has `lines` lines, unless that is 0."""
        try:
            async with asyncio.timeout(TIMEOUT):
                while not (
                    all(text in self.frame() for text in texts)
                    and without not in self.frame()
                    and lines in {0, len(self.frame().splitlines())}
                ):
                    assert self.process.poll() is None, self.output
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"no screen with {texts}:\n{self.frame()}") from None

    async def ended(self) -> int:
        """Waits for the end of the program and of its output. Returns the exit code."""
        code = await asyncio.to_thread(self.process.wait, TIMEOUT)
        await asyncio.sleep(0.05)
        return code
