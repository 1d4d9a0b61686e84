"""The accelerator of a worker: connects to the helper, and copies answer tables to the program in the kernel.

Rules:

1. Without the helper, the worker answers all queries itself. Each different cause of a failure is one line of the log.
2. After an unexpected error, the worker stops the program, and answers all queries itself.
3. The program answers only for VALID seconds after a heartbeat, so the program stops if the worker hangs.
4. When the worker ends, it stops the program first. Then the worker counts the last replies of the program.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Final

from svcdns.accelerator.client import INTERFACE_CHANGED, TAKEN_OVER, Client, is_bpf_map
from svcdns.accelerator.layout import PLACES
from svcdns.accelerator.memory import LAST_REPLIES, Memory
from svcdns.accelerator.metrics import UP
from svcdns.accelerator.mirrors import Mirrors
from svcdns.accelerator.protocol import Greeting
from svcdns.eventloop.clock import Clock
from svcdns.log_line import LogLine
from svcdns.serving.listeners import Listeners
from svcdns.telemetry.counters import Counters

VALID: Final = 0.75
"""The seconds for which the program answers after a heartbeat."""

log = logging.getLogger("svcdns")


class Accelerator:
    """Keeps the connection to the helper, and the memory received over the connection."""

    def __init__(
        self,
        address: str,
        listeners: Listeners,
        counters: Counters,
        clock: Clock,
        is_map: Callable[[int], bool] = is_bpf_map,
    ) -> None:
        """`address` is the helper's socket: a path, or an abstract name after `@`. `is_map` checks a descriptor."""
        self._listeners, self._counters, self._clock = listeners, counters, clock
        self._client = Client(address, self._connected, self._lost, clock, is_map)
        self._mirrors: Mirrors | None = None
        self._finishing: list[Mirrors] = []
        """Ended connections whose last replies are not counted yet."""
        self._has_ended = False
        self._failures: set[str] = set()
        """The reasons of failures since the last connection. Each reason is logged once."""
        self._up = counters.cell(UP)
        counters.set(self._up, 0)

    def heartbeat(self, is_current: Callable[[], bool]) -> None:
        """Connects, or lets the program answer for VALID seconds. Call it four times a second.

        `is_current` returns True if the answer tables have all changes that have arrived. VALID begins before the call
        of `is_current`, so the program stops in time if the process is suspended afterwards.
        """
        if self._has_ended or not self._listeners.readers:
            return
        until = self._clock() + VALID
        may_answer = self._mirrors is not None and is_current()
        try:
            if self._mirrors is None:
                self._client.attempt()
            elif may_answer:
                self._mirrors.memory.heartbeat(until)
        except Exception as error:  # noqa: BLE001  logged; the worker answers without the accelerator
            self._client.give_up(error)

    def place(self) -> None:
        """Lets the program answer for the sockets that the worker reads now, with the present Corefile."""
        try:
            self._place()
        except Exception as error:  # noqa: BLE001  logged; the worker answers without the accelerator
            self._client.give_up(error)

    def _place(self) -> None:
        if self._mirrors is not None:
            left_out = self._mirrors.place()
            if left_out:
                log.warning(LogLine("the accelerator has no room for all addresses", room=PLACES, left_out=left_out))

    def steps(self) -> Iterator[None]:
        """Adds the replies of the program to the metrics, and copies entries, in steps. Run it once a second."""
        mirrors = self._mirrors
        if mirrors is None:
            return
        try:
            for _ in mirrors.steps():
                yield
                if self._mirrors is not mirrors:  # the connection ended meanwhile
                    return
        except Exception as error:  # noqa: BLE001  logged; the worker answers without the accelerator
            self._client.give_up(error)

    async def end(self) -> None:
        """Stops the program, counts its last replies, and closes the connection."""
        self._has_ended = True
        self._detach()
        if self._finishing:
            await asyncio.sleep(LAST_REPLIES)
            for mirrors in tuple(self._finishing):
                self._finish(mirrors)
        self._client.close()

    def _connected(self, greeting: Greeting, descriptors: list[int]) -> None:
        memory = Memory(descriptors, greeting.small, greeting.large, greeting.cpus, self._clock)
        self._mirrors = Mirrors(
            memory,
            greeting.addresses,
            self._listeners,
            self._counters,
            self._clock,
            self._client.give_up,
            greeting.longest_reply,
        )
        self._place()
        self._counters.set(self._up, 1)
        self._failures.clear()
        level = logging.INFO if self._mirrors.places else logging.WARNING
        log.log(level, LogLine("accelerator connected", interface=greeting.interface, addresses=self._mirrors.places))

    def _lost(self, reason: str) -> None:
        if self._mirrors is not None:
            self._detach()
            asyncio.get_running_loop().call_later(LAST_REPLIES, self._finish_all)
        if reason not in self._failures:
            self._failures.add(reason)
            level = logging.INFO if reason in {TAKEN_OVER, INTERFACE_CHANGED} else logging.WARNING
            log.log(level, LogLine("accelerator not used", reason=reason))

    def _detach(self) -> None:
        """Stops the program, and detaches the answer tables."""
        self._counters.set(self._up, 0)
        mirrors, self._mirrors = self._mirrors, None
        if mirrors is not None:
            self._finishing.append(mirrors)
            mirrors.end()

    def _finish_all(self) -> None:
        for mirrors in tuple(self._finishing):
            self._finish(mirrors)

    def _finish(self, mirrors: Mirrors) -> None:
        self._finishing.remove(mirrors)
        try:
            mirrors.finish()
        except Exception as error:  # noqa: BLE001  the error that ended the connection may come again here
            log.warning(LogLine("the last replies of the accelerator are not counted", error=repr(error)))
