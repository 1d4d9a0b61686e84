"""`svcdns top`: displays the state of a running server, until the key `q` is pressed, or once."""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import signal
import socket
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click
import msgspec

from svcdns.cli.errors import CannotRun
from svcdns.cli.top_figures import TopReport, compute, schema, take
from svcdns.cli.top_text import View, report_text, screen
from svcdns.plugins.admin import DEFAULT

if TYPE_CHECKING:
    from rich.live import Live

EXAMPLES = """\b
Examples:
  svcdns top
  svcdns top --socket /tmp/svcdns-admin.sock --every 5
  svcdns top --once
  svcdns top --once --output json | jq .latency.p99
"""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGWINCH)
_KEYS: Final = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)
_KEY_NAMES: Final = {
    "\x1b": "escape", "\x7f": "backspace", "\b": "backspace", "[A": "up", "[B": "down", "[C": "right", "[D": "left",
    "[Z": "backtab", "[H": "home", "[1~": "home", "[5~": "pageup", "[6~": "pagedown",
}  # fmt: skip


@click.command("top", epilog=EXAMPLES, short_help="Display what a running server does.")
@click.option(
    "--socket", "path", metavar="PATH", default=DEFAULT, show_default=True,
    help="The socket of the plugin 'admin' in the server's Corefile.",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Print one report, after one interval.")
@click.option(
    "--every", type=click.FloatRange(0.5), default=2.0, show_default=True, metavar="S", help="The interval in seconds."
)
@click.option(
    "--output", type=click.Choice(["text", "json"]), default="text", show_default=True,
    help="Output format of the report; json implies --once.",
)  # fmt: skip
@click.option("--schema", "show_schema", is_flag=True, is_eager=True, help="Print the JSON schema.")
def top(path: str, once: bool, every: float, output: str, show_schema: bool) -> int:
    """Displays rates, response codes, hits, latency, upstreams, cluster views and processes of a running server.

    With the plugin 'traffic' in the server's Corefile, the most frequent names, clients and namespaces are also listed.
    The key '?' explains the other keys, and 'q' quits.

    The Corefile must have the plugin 'admin', and the command must run as the user of the server.

    Exit code: 0 if done, 2 if the command could not run.
    """
    if show_schema:
        click.echo(msgspec.json.format(msgspec.json.encode(schema())).decode())
        return 0
    if not once and output == "text":
        if not sys.stdin.isatty() or not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
            raise CannotRun("the live view needs a terminal; --once prints one report")
        return _Live(path, every).run()
    first = take(path)
    time.sleep(every)
    report = compute(first, take(path))
    click.echo(
        msgspec.json.format(msgspec.json.encode(report)).decode() if output == "json" else report_text(report).rstrip()
    )
    return 0


def keys(typed: str) -> list[str]:
    """Returns the keys in the text that a terminal sent: characters, or words such as `up`."""
    found = []
    for key in _KEYS.findall(typed):
        name = key if len(key) == 1 else "[" + key[2:]
        found.append(_KEY_NAMES.get(name, key if len(key) == 1 else ""))
    return found


class _Live:
    """The live view. A thread polls the server, so that keys work while the server does not answer."""

    def __init__(self, path: str, every: float) -> None:
        self._path, self._every = path, every
        self._sample = take(path)
        self._report: TopReport = compute(None, self._sample)
        self._displayed = self._report
        self._view = View("names" if self._sample.traffic is not None else "upstreams")
        self._error = ""
        self._stop = threading.Event()
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)

    def run(self) -> int:
        """Displays the server's state until a key or a signal ends the view. Returns the exit code."""
        threading.Thread(target=self._poll, daemon=True).start()
        number: int = signal.SIGTSTP
        try:
            with _signals(self._waker):
                while number == signal.SIGTSTP:
                    with _screen() as live:
                        number = self._loop(live)
                    if number == signal.SIGTSTP:
                        os.kill(os.getpid(), signal.SIGSTOP)
        finally:
            self._stop.set()
            self._woken.close()
            self._waker.close()
        return 128 + number if number else 0

    def _poll(self) -> None:
        while not self._stop.wait(self._every):
            try:
                sample = take(self._path)
            except CannotRun as failure:
                self._error = failure.message.removeprefix(f"{self._path}: ")
            else:
                self._report = compute(self._sample, sample)
                self._sample, self._error = sample, ""
            with contextlib.suppress(OSError):
                self._waker.send(b"\0")

    def _loop(self, live: Live) -> int:
        """Returns the number of the signal that ends or stops the view, or 0 for the key `q`."""
        while not self._view.ended:
            self._draw(live)
            ready = select.select([sys.stdin, self._woken], [], [], 1.0)[0]
            if self._woken in ready:
                for number in self._woken.recv(4096):
                    if number not in {0, signal.SIGWINCH}:
                        return number
            if sys.stdin in ready and not self._read_keys():
                return 0
        return 0

    def _read_keys(self) -> bool:
        """Reads and applies the pressed keys. Returns False if the terminal was closed."""
        try:
            typed = os.read(sys.stdin.fileno(), 1024)
        except OSError:
            return False
        for key in keys(typed.decode(errors="ignore")):
            self._view.press(key)
        return bool(typed)

    def _draw(self, live: Live) -> None:
        from rich.text import Text

        if not self._view.paused:
            self._displayed = self._report
        width, height = live.console.size
        waited = time.monotonic() - self._sample.at
        trouble = ""
        if self._error or waited > 3 * self._every + 2:
            trouble = f"no contact for {waited:.0f} s: {self._error or 'the server does not reply'}"
        title = (
            f"{self._path}  every {self._every:g} s  {time.strftime('%H:%M:%S', time.localtime(self._displayed.time))}"
        )
        lines = screen(self._displayed, self._view, width, height, title, trouble)
        text = Text(no_wrap=True, overflow="crop")
        for number, line in enumerate(lines):
            text.append("\n" if number else "")
            text.append(line.text, line.style)
        live.update(text, refresh=True)


@contextlib.contextmanager
def _screen() -> Iterator[Live]:
    """Context manager that turns on the alternate screen, and keys without echo. Restores the terminal at the end."""
    from rich.console import Console
    from rich.live import Live

    saved = termios.tcgetattr(sys.stdin)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        tty.setcbreak(sys.stdin)
        console = Console(highlight=False)
        with Live(
            console=console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        ) as live:
            yield live
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, saved)


@contextlib.contextmanager
def _signals(waker: socket.socket) -> Iterator[None]:
    """Context manager in which signals write their numbers to a socket. Restores the handlers at the end."""
    old = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in old.items():
            signal.signal(number, handler)
