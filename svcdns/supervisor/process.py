"""The supervisor's loop: children, signals, and the order of a stop (spec L9).

It knows what processes there are, and nothing of DNS, Corefiles or clusters. Control says how many workers there are to be and where to
listen; every word that comes in is from a child of its own."""

from __future__ import annotations

import os
import select
import selectors
import signal
import socket
import sys
import time
from typing import Final

from svcdns.supervisor.children import Child
from svcdns.supervisor.crew import Crew
from svcdns.telemetry import shared
from svcdns.telemetry.channel import Message

TICK: Final = 0.25
GAP: Final = 1.0
"""Seconds between two ticks after which the supervisor must have been stopped itself."""
DRAIN: Final = 7.0
"""Seconds that workers have to drain."""
FAREWELL: Final = 2.0
"""Seconds that control has to end."""
_HANDLED: Final = (
    signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD,
)  # fmt: skip


class _ExitError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Supervisor:
    """Keeps control and workers alive until told to stop."""

    def __init__(self, control_arguments: list[str], *, pin: bool = False) -> None:
        """`control_arguments` are given to control as they are; `pin` keeps each worker on a processor of its own."""
        self._selector = selectors.DefaultSelector()
        mapping = shared.make()
        os.set_inheritable(mapping, True)
        self._crew = Crew(self._selector, say, control_arguments, mapping)
        self._crew.pin = pin
        self._stopping = self._leaving = self._interrupted = False
        self._deadline = 0.0
        self._signals: list[int] = []
        self._awake_since = self._last_tick = time.monotonic()

    def run(self) -> int:
        """Runs until a stop is through; the exit code."""
        self._catch_signals()
        try:
            self._crew.start(self._crew.control)
            self._crew.set_count(1)  # there is always one, and it takes as long to start as control does
            while True:
                self._turn()
        except _ExitError as end:
            for child in self._crew:
                child.kill()
            return end.code

    # -- the loop

    def _turn(self) -> None:
        for key, _ in self._selector.select(TICK):
            if key.data is None:
                self._wakeup.recv(4096)
            else:
                self._read(key.data)
        while self._signals:
            self._signalled(self._signals.pop(0))
        self._reap()
        self._tick(time.monotonic())

    def _catch_signals(self) -> None:
        self._wakeup, waker = socket.socketpair()
        self._wakeup.setblocking(False)
        waker.setblocking(False)
        self._waker = waker
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        for number in _HANDLED:
            signal.signal(number, lambda caught, _frame: self._signals.append(caught))
        self._selector.register(self._wakeup, selectors.EVENT_READ, None)

    def _signalled(self, number: int) -> None:
        if number == signal.SIGTERM:
            say("[INFO] SIGTERM: Shutting down servers then terminating")
            self._stop("SIGTERM")
        elif number == signal.SIGINT:
            if self._interrupted:
                raise _ExitError(2)
            self._interrupted = True
            say("[INFO] SIGINT: Shutting down")
            self._stop("SIGINT")
        elif number == signal.SIGQUIT:
            say("[INFO] SIGQUIT: Quitting process immediately")
            raise _ExitError(0)
        elif number == signal.SIGUSR1:
            say("[INFO] SIGUSR1: Reloading")
            self._crew.control.send({"op": "reload"})
        elif number == signal.SIGUSR2:
            say("[WARNING] SIGUSR2: an upgrade in place is not built yet; nothing was done")

    def _tick(self, now: float) -> None:
        if now - self._last_tick > GAP:
            self._awake_since = now
        self._last_tick = now
        crew = self._crew
        for child in crew:
            if not child.running:
                if child.start_at and now >= child.start_at and not self._stopping:
                    crew.start(child)
            elif child.is_silent(now, self._awake_since) and not child.was_silent:
                say(f"[ERROR] {child.name} does not answer: killed, to be replaced")
                child.was_silent = True
                child.kill()
            elif crew.endings.look(child, now):
                crew.tell_endings()
        crew.settle_reading(now, self._awake_since)
        self._advance_stop(now)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for child in self._crew:
                if child.pid == pid:
                    self._ended(child, os.waitstatus_to_exitcode(status))

    def _ended(self, child: Child, code: int) -> None:
        self._read(child)
        crew, now = self._crew, time.monotonic()
        crew.buried(child)
        if child is crew.control and not crew.served:
            raise _ExitError(1 if code == 0 else abs(code))
        if not self._stopping:
            say(f"[ERROR] {child.name} ended ({_cause(code)}): starting it again")
            crew.endings.ended(child, code, now)
            crew.tell_endings()
        crew.settle_reading(now, self._awake_since)

    # -- what control says

    def _read(self, child: Child) -> None:
        for message in self._crew.receive(child):
            self._told(child, message)

    def _told(self, child: Child, message: Message) -> None:
        match message["op"]:
            case "workers":
                self._crew.set_count(message["count"])
            case "listen":
                error = self._crew.listen([(host, port) for host, port in message["addresses"]])
                child.send({"op": "listening", "ok": not error, "error": error})
            case "fatal":
                raise _ExitError(message["code"])
            case "stopping-done":
                self._drain_workers()

    # -- stopping

    def _stop(self, name: str) -> None:
        if self._stopping:
            return
        self._stopping = True
        if self._crew.control.running:
            self._crew.control.send({"op": "stop", "signal": name})
        else:
            self._drain_workers()

    def _drain_workers(self) -> None:
        if not self._crew.draining:
            self._crew.draining = True
            self._deadline = time.monotonic() + DRAIN
            for worker in self._crew.workers:
                worker.send({"op": "drain"})

    def _advance_stop(self, now: float) -> None:
        if not self._stopping:
            return
        control = self._crew.control
        if not self._crew.draining:
            if not control.running:
                self._drain_workers()
            return
        alive = [child for child in self._crew if child.running and child is not control]
        if alive:
            if now > self._deadline:
                for child in alive:
                    child.kill()
            return
        if not self._leaving:
            self._leaving = True
            self._deadline = now + FAREWELL
            control.send({"op": "exit"})
        if not control.running or now > self._deadline:
            raise _ExitError(0)


def _cause(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:  # one without a name
        return f"signal {-code}"


def say(line: str) -> None:
    """Writes a log line if standard output takes it; a reader that does not read must not hold the supervisor up."""
    try:
        if select.select([], [1], [], 0)[1]:
            os.write(1, line.encode() + b"\n")
    except OSError:
        return


def run(control_arguments: list[str], pidfile: str | None = None, *, pin: bool = False) -> int:
    """Runs the program; the exit code. `pidfile` gets the process id; `pin` keeps each worker on a processor of its own."""
    if pidfile:
        try:
            with open(pidfile, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        except OSError as error:
            sys.stderr.write(f"cannot write the pidfile {pidfile}: {error.strerror}\n")
            return 1
    return Supervisor(control_arguments, pin=pin).run()
