"""The supervisor's loop: children, signals, the order of a stop (docs/behaviour/corefile.md#signals), and the upgrade
of the program in place.

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

from svcdns import __version__
from svcdns.process import shared_memory
from svcdns.process.channel import Message
from svcdns.supervisor import reexec
from svcdns.supervisor.child import Child
from svcdns.supervisor.children import Crew
from svcdns.supervisor.preflight import Trial, TrialError
from svcdns.supervisor.rolling_replacement import Replacing

TICK: Final = 0.25
SHORT_TICK: Final = 0.02
"""Seconds between two looks while a worker waits to be told to read."""
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

    def __init__(self, control_arguments: list[str], mapping: int, *, pin: bool = False) -> None:
        """`control_arguments` are given to control as they are; `mapping` is the shared mapping; `pin` keeps each worker on a processor."""
        self._selector = selectors.DefaultSelector()
        os.set_inheritable(mapping, True)
        self._crew = Crew(self._selector, say, control_arguments, mapping)
        self._crew.pin = pin
        self._replacing = Replacing(self._crew, say)
        self._trial: Trial | None = None
        self._handing_over = False
        self._stopping = self._leaving = self._interrupted = False
        self._deadline = 0.0
        self._signals: list[int] = []
        self._awake_since = self._last_tick = time.monotonic()

    def run(self) -> int:
        """Starts everything, and runs until a stop is through; the exit code."""
        self._catch_signals()
        self._crew.start(self._crew.control)
        self._crew.set_count(1)  # there is always one, and it takes as long to start as control does
        return self._loop()

    def go_on(self, state: reexec.State) -> int:
        """Takes everything over from the program before, replaces its children, and runs until a stop is through; the exit code."""
        reexec.restore(self._crew, state)
        self._catch_signals()
        say(f"[INFO] svcdns-{__version__} has taken over: control and {len(self._crew.workers)} workers are replaced, one after the other")
        self._replacing.begin([self._crew.control, *self._crew.workers])
        return self._loop()

    def _loop(self) -> int:
        try:
            while True:
                self._turn()
        except _ExitError as end:
            for child in self._crew:
                child.kill()
            return end.code

    # -- the loop

    def _turn(self) -> None:
        for key, _ in self._selector.select(SHORT_TICK if self._crew.unsettled else TICK):
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
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)  # an upgrade in place has blocked them

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
            for child in self._crew:
                if child.slot < 0:
                    child.send({"op": "reload"})
        elif number == signal.SIGUSR2:
            self._try_upgrade()

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
        if self._trial is not None:
            self._trial.look(now)
        if self._stopping:
            self._advance_stop(now)
        elif self._handing_over:
            self._hand_over()
        elif self._replacing.advance(now):
            say("[INFO] the upgrade is complete")

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            code = os.waitstatus_to_exitcode(status)
            if self._trial is not None and self._trial.pid == pid:
                self._upgrade(self._trial, code)
            for child in self._crew:
                if child.pid == pid:
                    self._ended(child, code)

    def _ended(self, child: Child, code: int) -> None:
        self._read(child)
        crew, now = self._crew, time.monotonic()
        leaving = child in crew.leaving
        crew.buried(child)
        if child is crew.control and not crew.served:
            raise _ExitError(1 if code == 0 else abs(code))
        if leaving:
            if code:
                say(f"[WARNING] {child.name}, which has been replaced, ended ({_cause(code)})")
        elif not self._stopping:
            then = self._replacing.ended(child)
            say(f"[ERROR] {child.name} ended ({_cause(code)}): {then or 'starting it again'}")
            crew.endings.ended(child, code, now)
            crew.tell_endings()
        crew.settle_reading(now, self._awake_since)

    # -- the upgrade in place

    @property
    def _upgrading(self) -> bool:
        return self._trial is not None or self._handing_over or self._replacing.going_on

    def _try_upgrade(self) -> None:
        """Runs the program that is installed now once; if it can take over, it will."""
        if self._stopping or not self._crew.served:
            say("[ERROR] SIGUSR2: nothing is upgraded during a start or a stop")
        elif self._upgrading:
            say("[ERROR] SIGUSR2: an upgrade is going on; this one is refused")
        else:
            say("[INFO] SIGUSR2: trying the program that is installed now")
            self._trial = Trial(time.monotonic())

    def _upgrade(self, trial: Trial, code: int) -> None:
        """Has the new program take over, if its trial went well."""
        self._trial = None
        try:
            version = trial.result(code, self._crew.format)
        except TrialError as error:
            say(f"[ERROR] SIGUSR2: the program that is installed now cannot take over, nothing was done: {error}")
            return
        if not self._stopping:
            say(f"[INFO] SIGUSR2: svcdns-{__version__} hands over to svcdns-{version}")
            self._handing_over = True

    def _hand_over(self) -> None:
        """Becomes the new program, unless a signal or half a message has just come: then at the next turn."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            if not self._signals and all(child.channel.whole for child in self._crew if child.channel is not None):
                self._handing_over = False
                reexec.become(*reexec.describe(self._crew))
        except OSError as error:
            say(f"[ERROR] SIGUSR2: the new program cannot be run, nothing was done: {error}")
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)

    # -- what control says

    def _read(self, child: Child) -> None:
        for message in self._crew.receive(child):
            self._told(child, message)

    def _told(self, child: Child, message: Message) -> None:
        match message["op"]:
            case "workers":
                self._crew.set_count(message["count"])
            case "listen":
                error = self._crew.listen([(host, port, proto) for host, port, proto in message["addresses"]])
                child.send({"op": "listening", "ok": not error, "error": error})
            case "format":
                if child is self._crew.control:
                    self._crew.format = message["format"]
            case "listed":
                self._crew.connect_all(child)
            case "serving":
                self._replacing.serves(child, time.monotonic())
            case "restart":
                if child is self._crew.control:
                    self._restart(child)
            case "fatal":
                if child is self._crew.control:
                    raise _ExitError(message["code"])
                child.kill()
            case "lame":
                for worker in self._crew.workers:
                    worker.send({"op": "end-behind-answers"})
            case "stopping-done":
                if child is self._crew.control:
                    self._drain_workers()

    def _restart(self, control: Child) -> None:
        """Has control end, to be started anew: it asks for that when memory runs out."""
        if self._upgrading:
            say("[WARNING] control is not restarted while the program is upgraded")
        elif self._crew.served and not self._stopping:
            control.send({"op": "exit"})

    # -- stopping

    def _stop(self, name: str) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._replacing.stop()
        if self._crew.control.running:
            self._crew.control.send({"op": "stop", "signal": name})
        else:
            self._drain_workers()

    def _drain_workers(self) -> None:
        if not self._crew.draining:
            self._crew.draining = True
            self._deadline = time.monotonic() + DRAIN
            for child in self._crew:
                if child.slot >= 0 and child not in self._crew.leaving:
                    child.send({"op": "drain"})

    def _advance_stop(self, now: float) -> None:
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
    return Supervisor(control_arguments, shared_memory.make(), pin=pin).run()


def go_on(fd: int) -> int:
    """Runs the program in the place of the one that has left its state there; the exit code."""
    state = reexec.read(fd)
    return Supervisor(state["arguments"], state["mapping"]).go_on(state)
