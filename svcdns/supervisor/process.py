"""The supervisor: keeps the control process and workers running, handles signals, and stops and upgrades the program.

The signals are listed in docs/behaviour/corefile.md#signals. Control sends the number of workers to start and the
addresses to listen on. The supervisor reads no input but the messages of its children.
"""

from __future__ import annotations

import os
import select
import selectors
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import Final

from svcdns import __version__
from svcdns.log_line import LogLine
from svcdns.process import cookie_secrets, sample_memory, shared_memory
from svcdns.process.channel import Message
from svcdns.process.core_dumps import exclude_memory
from svcdns.process.quick_exit import exit_quickly
from svcdns.supervisor import reexec
from svcdns.supervisor.child import Child
from svcdns.supervisor.children import DRAIN_TIMEOUT, Children
from svcdns.supervisor.early_sockets import EarlySocket
from svcdns.supervisor.preflight import Preflight, PreflightError
from svcdns.supervisor.rolling_replacement import RollingReplacement

TICK: Final = 0.25
"""Seconds between two checks of the children."""
SHORT_TICK: Final = 0.005
"""Seconds between two checks while a worker waits to be told which sockets to read."""
GAP: Final = 1.0
"""If more seconds than this lie between two checks, the supervisor itself must have been stopped meanwhile."""
REPLACED_DRAIN_TIMEOUT: Final = 2.0
"""The same for workers that have been replaced in an upgrade: they got no new queries over UDP for some time."""
EXIT_TIMEOUT: Final = 1.5
"""Seconds in which control must exit during a stop."""
_HANDLED: Final = (
    signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD,
)  # fmt: skip


class _ExitError(Exception):
    """Ends the supervisor's loop with an exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Supervisor:
    """Keeps the control process and workers running until a signal stops them."""

    def __init__(self, control_arguments: list[str], mapping: int, *, pin: bool = False) -> None:
        """`control_arguments` are the command-line arguments of the control process.

        `mapping` is the descriptor of the shared memory. If `pin` is true, each worker is bound to a processor.
        """
        self._selector = selectors.DefaultSelector()
        os.set_inheritable(mapping, True)
        cookie_secrets.add(mapping)
        sample_memory.add(mapping)
        self._children = Children(self._selector, log, control_arguments, mapping)
        self._children.pin = pin
        self._replacement = RollingReplacement(self._children, log)
        self._preflight: Preflight | None = None
        self._executing = False
        """Whether the new program is to be executed, once no message has been received in part."""
        self._stopping = self._interrupted = False
        self._deadline = 0.0
        """By when control, or later the workers, must have ended during a stop; 0 during the lame duck time."""
        self._signals: list[int] = []
        self._awake_since = self._last_tick = time.monotonic()

    def run(self, early: Sequence[EarlySocket] = ()) -> int:
        """Starts the children, runs until they have been stopped, and returns the exit code.

        `early` has the sockets that are bound already.
        """
        self._children.adopt_early(early)
        self._catch_signals()
        self._children.start(self._children.control)
        self._children.start_workers(1)  # starts beside control: there is at least one worker in any case
        return self._loop()

    def resume(self, state: reexec.State) -> int:
        """Continues the program after an upgrade: takes over the children of the old program, and then replaces them.

        `state` is the state that the old program has stored. Returns the exit code.
        """
        reexec.restore(self._children, state)
        self._catch_signals()
        workers = self._children.all_workers
        log(
            LogLine(
                "[INFO] a new program has taken over: control and workers are replaced, one after the other",
                version=__version__, workers=len(workers),
            )
        )  # fmt: skip
        self._replacement.begin([self._children.control, *workers])
        return self._loop()

    def _loop(self) -> int:
        try:
            while True:
                self._run_once()
        except _ExitError as end:
            for child in self._children:
                child.kill()
            return end.code

    # -- the loop

    def _run_once(self) -> None:
        for key, _ in self._selector.select(SHORT_TICK if self._children.has_unassigned else TICK):
            if key.data is None:
                self._wakeup.recv(4096)
            else:
                self._read(key.data)
        while self._signals:
            self._handle_signal(self._signals.pop(0))
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
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)  # the old program blocks them before it executes this one

    def _handle_signal(self, number: int) -> None:
        if number == signal.SIGTERM:
            log("[INFO] SIGTERM: Shutting down servers then terminating")
            self._stop("SIGTERM")
        elif number == signal.SIGINT:
            if self._interrupted:
                raise _ExitError(2)
            self._interrupted = True
            log("[INFO] SIGINT: Shutting down")
            self._stop("SIGINT")
        elif number == signal.SIGQUIT:
            log("[INFO] SIGQUIT: Quitting process immediately")
            raise _ExitError(0)
        elif number == signal.SIGUSR1:
            log("[INFO] SIGUSR1: Reloading")
            for child in self._children:
                if child.slot < 0:
                    child.send({"op": "reload"})
        elif number == signal.SIGUSR2:
            self._begin_upgrade()

    def _tick(self, now: float) -> None:
        if now - self._last_tick > GAP:
            self._awake_since = now
        self._last_tick = now
        children = self._children
        for child in children:
            if not child.running:
                if child.start_at and now >= child.start_at and not self._stopping:
                    children.start(child)
            elif child.is_unresponsive(now, self._awake_since) and not child.was_unresponsive:
                log(LogLine("[ERROR] a process sends no heartbeat: it is killed and started again", process=child.name))
                child.was_unresponsive = True
                child.kill()
            elif children.exits.check_recovered(child, now):
                children.send_exits()
        children.assign_slots(now, self._awake_since)
        if self._preflight is not None:
            self._preflight.check_timeout(now)
        if self._stopping:
            self._advance_stop(now)
        elif self._executing:
            self._execute()
        elif self._replacement.advance(now):
            log("[INFO] the upgrade is complete")

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            code = os.waitstatus_to_exitcode(status)
            if self._preflight is not None and self._preflight.pid == pid:
                self._end_preflight(self._preflight, code)
            for child in self._children:
                if child.pid == pid:
                    self._exited(child, code)

    def _exited(self, child: Child, code: int) -> None:
        self._read(child)
        children, now = self._children, time.monotonic()
        is_predecessor = child in children.predecessors
        children.reaped(child)
        if child is children.control and not children.served:
            raise _ExitError(1 if code == 0 else abs(code))
        if is_predecessor:
            if code:
                log(LogLine("[WARNING] a replaced process ended", process=child.name, **_cause(code)))
        elif self._stopping:
            self._replacement.exited(child)
        else:
            consequence = self._replacement.exited(child)
            text = consequence or "starting it again"
            log(LogLine("[ERROR] a process ended", process=child.name, **_cause(code), consequence=text))
            children.exits.count(child, code, now)
            children.send_exits()
        children.assign_slots(now, self._awake_since)

    # -- the upgrade in place

    @property
    def _upgrading(self) -> bool:
        return self._preflight is not None or self._executing or self._replacement.in_progress

    def _begin_upgrade(self) -> None:
        """Starts the preflight check of the installed program, unless an upgrade is impossible now."""
        if self._stopping or not self._children.served:
            log("[ERROR] SIGUSR2: there is no upgrade during a start or a stop")
        elif self._upgrading:
            log("[ERROR] SIGUSR2: an upgrade is in progress; this one is refused")
        else:
            log("[INFO] SIGUSR2: checking the program that is installed now")
            self._preflight = Preflight(time.monotonic())

    def _end_preflight(self, preflight: Preflight, code: int) -> None:
        """Requests the execution of the new program if the preflight check has succeeded."""
        self._preflight = None
        try:
            version = preflight.result(code, self._children.format)
        except PreflightError as error:
            log(
                LogLine(
                    "[ERROR] SIGUSR2: the program that is installed now cannot take over, nothing has changed",
                    error=error,
                )
            )
            return
        if not self._stopping:
            log(LogLine("[INFO] SIGUSR2: handing over to the new program", version=__version__, new_version=version))
            self._executing = True

    def _execute(self) -> None:
        """Executes the new program in this process.

        Does nothing if a signal or a part of a message has just arrived. The main loop then calls it again.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        try:
            if not self._signals and all(child.channel.whole for child in self._children if child.channel is not None):
                self._executing = False
                reexec.execute(*reexec.dump(self._children))
        except OSError as error:
            log(LogLine("[ERROR] SIGUSR2: the new program cannot be executed, nothing has changed", error=error))
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)

    # -- messages of the children

    def _read(self, child: Child) -> None:
        for message in self._children.receive(child):
            self._handle_message(child, message)

    def _handle_message(self, child: Child, message: Message) -> None:
        match message["op"]:
            case "workers":
                self._children.start_workers(message["count"])
                if message.get("encrypted"):
                    self._children.start_encrypted()
            case "no-encrypted":
                if not self._upgrading:
                    self._children.stop_encrypted()
            case "listen":
                addresses, encrypted = (
                    [(host, port, proto) for host, port, proto in message.get(key, ())]
                    for key in ("addresses", "encrypted")
                )
                error = self._children.listen(addresses, encrypted)
                child.send({"op": "listening", "ok": not error, "error": error})
            case "listen-early":
                if child is self._children.control and not self._children.served:
                    self._children.listen_early([(host, port, proto) for host, port, proto in message["addresses"]])
            case "format":
                if child is self._children.control:
                    self._children.format = message["format"]
            case "listed":
                self._children.connect_all(child)
            case "serving":
                self._replacement.control_is_ready(child, time.monotonic())
            case "restart":
                if child is self._children.control:
                    self._restart(child)
            case "fatal":
                if child is self._children.control:
                    raise _ExitError(message["code"])
                child.kill()
            case "lame":
                for worker in self._children:
                    if worker.slot >= 0:
                        worker.send({"op": "end-behind-answers", "close": message.get("close", False)})
            case "stopping-done":
                if child is self._children.control:
                    self._deadline = time.monotonic() + EXIT_TIMEOUT
                    child.send({"op": "exit"})

    def _restart(self, control: Child) -> None:
        """Requests that the control process exits, so that it is started again."""
        if self._upgrading:
            log("[WARNING] control is not restarted during an upgrade")
        elif self._children.served and not self._stopping:
            control.send({"op": "exit"})

    # -- stopping: control waits for the lame duck time, and exits; then workers finish their last queries. They are the
    # last, so that a new start of the server follows soon after the last answer.

    def _stop(self, name: str) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._replacement.stop()
        if self._children.control.running:
            self._children.control.send({"op": "stop", "signal": name})
        else:
            self._drain_workers()

    def _drain_workers(self) -> None:
        self._children.draining = True
        now = time.monotonic()
        self._deadline = now + DRAIN_TIMEOUT
        for child in self._children:
            if child.slot >= 0:
                child.send({"op": "drain"})
        for child in self._children.predecessors:
            self._children.predecessors[child] = now + REPLACED_DRAIN_TIMEOUT

    def _advance_stop(self, now: float) -> None:
        control = self._children.control
        self._replacement.kill_overdue(now)
        if not self._children.draining:
            if control.running and 0.0 < self._deadline < now:
                control.kill()
            elif not control.running:
                self._drain_workers()
            return
        running = [child for child in self._children if child.running and child is not control]
        if not running:
            raise _ExitError(0)
        if now > self._deadline:
            for child in running:
                child.kill()


def _cause(code: int) -> dict[str, object]:
    """Returns the field of a log line for an exit code. A negative code is the number of a signal."""
    if code >= 0:
        return {"exit_code": code}
    try:
        return {"signal": signal.Signals(-code).name}
    except ValueError:  # a signal without a name
        return {"signal": -code}


def log(line: str) -> None:
    """Writes a line to standard output, unless that would block."""
    try:
        if select.select([], [1], [], 0)[1]:
            os.write(1, line.encode() + b"\n")
    except OSError:
        return


def run(
    control_arguments: list[str], pidfile: str | None = None, *, pin: bool = False, early: Sequence[EarlySocket] = ()
) -> int:
    """Runs the program, and ends the process. Returns an exit code if the program cannot be run.

    The process id is written to `pidfile`, if it is given. If `pin` is true, each worker is bound to a processor.
    `early` has the sockets that are bound already.
    """
    if pidfile:
        try:
            with open(pidfile, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        except OSError as error:
            sys.stderr.write(f"cannot write the pidfile {pidfile}: {error.strerror}\n")
            return 1
    exclude_memory()
    return exit_quickly(Supervisor(control_arguments, shared_memory.create(), pin=pin).run(early))


def resume(fd: int) -> int:
    """Runs the program after an upgrade in place, and ends the process without returning.

    `fd` is the file in which the old program has stored its state.
    """
    state = reexec.read_state(fd)
    exclude_memory()  # an earlier version may have started this process
    return exit_quickly(Supervisor(state["arguments"], state["mapping"]).resume(state))
