"""An event loop that reads DNS sockets inside its selector, so that a packet does not pass through asyncio.

A "drain" is a function that reads a socket and handles the packets. The selector calls it when the socket is readable,
and then waits again, unless the event loop has other work. Linux's epoll(7) is used directly. On other systems, a drain
is a reader of the platform's own loop.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from contextvars import Context
from time import monotonic
from typing import Any, Final, TypeVarTuple

Arguments = TypeVarTuple("Arguments")

Drain = Callable[[], object]
"""Reads a socket, and schedules further work in the event loop."""

MAX_EVENTS: Final = 256
"""The most descriptors that one wait reports."""
_IN: Final = 1
_OUT: Final = 4
"""The values of EPOLLIN and EPOLLOUT. Errors and hang-ups, which epoll also reports, are treated as both."""


class DrainingSelector(selectors.BaseSelector):
    """A selector that reads sockets while it waits: when a socket is readable, the selector calls its drain function.

    Unregister a descriptor before it is closed. This also removes its drain function.
    """

    def __init__(self) -> None:
        """Creates a selector without any descriptors."""
        self._epoll = select.epoll()
        self._keys: dict[int, selectors.SelectorKey] = {}
        self._map = _ByFile(self._keys)
        self._drains: dict[int, Drain] = {}
        self.interrupted = False
        """True if something was scheduled in the event loop since the wait began."""
        self.draining = False
        """True while drain functions run."""
        self.after_drains: list[Callable[[], object]] = []
        """Functions to call after the drain functions of this wake-up."""

    def add(self, fd: int, drain: Drain) -> None:
        """Calls `drain` whenever the descriptor is readable, from this call on."""
        self._drains[fd] = drain
        key = self._keys.get(fd)
        if key is None:
            self.register(fd, selectors.EVENT_READ, (None, None))
        else:
            self.modify(fd, key.events | selectors.EVENT_READ, (None, key.data[1]))

    def remove(self, fd: int) -> None:
        """Stops calling the drain function of a descriptor."""
        key = self._keys.get(fd)
        if self._drains.pop(fd, None) is None or key is None:
            return
        if key.events & selectors.EVENT_WRITE:
            self.modify(fd, selectors.EVENT_WRITE, key.data)
        else:
            self.unregister(fd)

    def finish_drains(self) -> None:
        """Calls the functions in `after_drains`."""
        while self.after_drains:
            self.after_drains.pop()()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Registers a descriptor, as `selectors.BaseSelector` specifies."""
        fd = _number(fileobj)
        if fd in self._keys:
            raise KeyError(f"{fileobj!r} is registered already")
        self._epoll.register(fd, _mask(events))
        key = self._keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Changes the events and the data of a registered descriptor."""
        old = self._keys[_number(fileobj)]
        if events != old.events:
            self._epoll.modify(old.fd, _mask(events))
        key = self._keys[old.fd] = old._replace(events=events, data=data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Removes a registered descriptor, and its drain function."""
        key = self._keys.pop(_number(fileobj))
        self._drains.pop(key.fd, None)
        with suppress(OSError):  # if the descriptor was closed before, the kernel has removed it already
            self._epoll.unregister(key.fd)
        return key

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Returns the registrations by descriptor: a number, or an object with `fileno()`."""
        return self._map

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """Returns the registration of a descriptor. Raises KeyError."""
        return self._keys[_number(fileobj)]

    def close(self) -> None:
        """Closes the epoll descriptor."""
        self._epoll.close()
        self._keys.clear()
        self._drains.clear()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Returns the ready descriptors that have no drain function.

        Waits at most `timeout` seconds. If `timeout` is None, there is no limit.
        """
        ends = monotonic() + timeout if timeout is not None and timeout > 0 else None
        wait = -1.0 if timeout is None else max(timeout, 0.0)
        poll, drain_of, key_of = self._epoll.poll, self._drains.get, self._keys.get
        self.interrupted = False
        while True:
            ready = []
            events = poll(wait, MAX_EVENTS)
            self.draining = True
            for fd, mask in events:
                drain = drain_of(fd)
                if drain is not None:
                    if mask & ~_OUT:
                        drain()
                    if mask == _IN:
                        continue
                key = key_of(fd)
                if key is not None:
                    seen = (selectors.EVENT_READ if mask & ~_OUT else 0) | (selectors.EVENT_WRITE if mask & ~_IN else 0)
                    seen &= key.events if drain is None else key.events & selectors.EVENT_WRITE
                    if seen:
                        ready.append((key, seen))
            while self.after_drains:
                self.after_drains.pop()()
            self.draining = False
            if ready or self.interrupted or not events or wait == 0:
                return ready
            if ends is not None:
                wait = ends - monotonic()
                if wait <= 0:
                    return ready


class _ByFile(Mapping[Any, selectors.SelectorKey]):
    """A mapping of registrations whose keys are descriptor numbers or objects with `fileno()`."""

    def __init__(self, keys: dict[int, selectors.SelectorKey]) -> None:
        self._keys = keys

    def __getitem__(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys[_number(fileobj)]

    def __iter__(self) -> Iterator[int]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _mask(events: int) -> int:
    return (_IN if events & selectors.EVENT_READ else 0) | (_OUT if events & selectors.EVENT_WRITE else 0)


def _number(fileobj: Any) -> int:
    return fileobj if isinstance(fileobj, int) else int(fileobj.fileno())


class DrainingLoop(asyncio.SelectorEventLoop):
    """An event loop with a `DrainingSelector`."""

    def __init__(self) -> None:
        self.selector = DrainingSelector()
        super().__init__(self.selector)

    def call_soon(
        self, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.Handle:
        """Schedules a callback as in asyncio, and ends the selector's wait."""
        self.selector.interrupted = True
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Schedules a timer as in asyncio, and ends the selector's wait, because the timer may be the next one."""
        self.selector.interrupted = True
        return super().call_at(when, callback, *args, context=context)


def new_loop() -> asyncio.AbstractEventLoop:
    """Returns a new event loop for a worker: a `DrainingLoop` on Linux, else the platform's own loop."""
    return DrainingLoop() if sys.platform == "linux" else asyncio.new_event_loop()


def add_drain(loop: asyncio.AbstractEventLoop, sock: socket.SocketType, drain: Drain) -> None:
    """Calls `drain` whenever the socket is readable.

    A `DrainingLoop` calls it inside its selector, any other event loop as a reader (`add_reader`).
    """
    if isinstance(loop, DrainingLoop):
        loop.selector.add(sock.fileno(), drain)
    else:
        loop.add_reader(sock, drain)


def remove_drain(loop: asyncio.AbstractEventLoop, sock: socket.SocketType) -> None:
    """Stops calling the function that `add_drain` has set for a socket."""
    if isinstance(loop, DrainingLoop):
        loop.selector.remove(sock.fileno())
    else:
        loop.remove_reader(sock)


def after_drains(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    """Calls `call` after all drain functions of this wake-up, or in the next iteration of the loop."""
    if not isinstance(loop, DrainingLoop):
        loop.call_soon(call)
        return
    selector = loop.selector
    if not (selector.draining or selector.after_drains):
        loop.call_soon(selector.finish_drains)
    selector.after_drains.append(call)


def release(transport: asyncio.BaseTransport) -> None:
    """Removes the reference cycle of an asyncio transport, so that its memory is freed without the garbage collector.

    Call it in `connection_lost`.
    """
    getattr(transport, "__dict__", {}).pop(
        "_read_ready_cb", None
    )  # a bound method of the transport itself, which reads its socket
