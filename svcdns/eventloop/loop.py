"""An event loop whose waiting answers DNS: sockets are drained inside the selector, so that a wake-up does not pass through asyncio.

A drain that leaves nothing for the event loop to do (a compiled reply was sent, a question was forwarded) has the selector wait on.
Anything else (another descriptor, a timer that is due, whatever a drain has put into the loop) hands control back at once. What many drains
do in turn can be ended together, `after_drains`. This is Linux's epoll(7) used directly; elsewhere a drain is a reader of the platform's
own loop.
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
"""Reads a socket. What it leaves to be done it puts into the event loop."""

MOST: Final = 256
"""Descriptors that one wait reports."""
_IN: Final = 1
_OUT: Final = 4
"""EPOLLIN and EPOLLOUT; errors and hang-ups come unasked, and wake whoever waits."""


class DrainingSelector(selectors.BaseSelector):
    """A selector with descriptors that are drained while it waits.

    The event loop may wait for a drained descriptor to become writable: its registrations carry a pair of handles, for reading and for
    writing, of which the first is missing here. Whoever closes a descriptor unregisters it, which ends its drain too.
    """

    def __init__(self) -> None:
        """Nothing is registered."""
        self._epoll = select.epoll()
        self._keys: dict[int, selectors.SelectorKey] = {}
        self._map = _ByFile(self._keys)
        self._drains: dict[int, Drain] = {}
        self.stirred = False
        """Whether the event loop has got something to do since the wait began."""
        self.draining = False
        """Whether a drain is at work now."""
        self.afterwards: list[Callable[[], object]] = []
        """What is to be done when the drains of this wake-up are through."""

    def add(self, fd: int, drain: Drain) -> None:
        """Drains this descriptor whenever it is readable."""
        self._drains[fd] = drain
        key = self._keys.get(fd)
        if key is None:
            self.register(fd, selectors.EVENT_READ, (None, None))
        else:
            self.modify(fd, key.events | selectors.EVENT_READ, (None, key.data[1]))

    def remove(self, fd: int) -> None:
        """Leaves the descriptor alone."""
        key = self._keys.get(fd)
        if self._drains.pop(fd, None) is None or key is None:
            return
        if key.events & selectors.EVENT_WRITE:
            self.modify(fd, selectors.EVENT_WRITE, key.data)
        else:
            self.unregister(fd)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """See `selectors.BaseSelector`, as for the others below."""
        fd = _number(fileobj)
        if fd in self._keys:
            raise KeyError(f"{fileobj!r} is registered already")
        self._epoll.register(fd, _mask(events))
        key = self._keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Waits for other events of a registered descriptor."""
        old = self._keys[_number(fileobj)]
        if events != old.events:
            self._epoll.modify(old.fd, _mask(events))
        key = self._keys[old.fd] = old._replace(events=events, data=data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Waits for nothing of this descriptor any more."""
        key = self._keys.pop(_number(fileobj))
        self._drains.pop(key.fd, None)
        with suppress(OSError):  # closed before: the kernel has forgotten it
            self._epoll.unregister(key.fd)
        return key

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """By descriptor: its number, or an object that has one. asyncio looks sockets up in it from CPython 3.13 on."""
        return self._map

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """The registration of a descriptor. Raises KeyError."""
        return self._keys[_number(fileobj)]

    def close(self) -> None:
        """Forgets everything."""
        self._epoll.close()
        self._keys.clear()
        self._drains.clear()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready besides what is drained; waits at most `timeout` seconds, for ever if None, not at all if 0 or less."""
        ends = monotonic() + timeout if timeout is not None and timeout > 0 else None
        wait = -1.0 if timeout is None else max(timeout, 0.0)
        poll, drain_of, key_of = self._epoll.poll, self._drains.get, self._keys.get
        self.stirred = False
        while True:
            ready = []
            events = poll(wait, MOST)
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
            while self.afterwards:
                self.afterwards.pop()()
            self.draining = False
            if ready or self.stirred or not events or wait == 0:
                return ready
            if ends is not None:
                wait = ends - monotonic()
                if wait <= 0:
                    return ready


class _ByFile(Mapping[Any, selectors.SelectorKey]):
    """Registrations, looked up by number of the descriptor or by an object with `fileno()`."""

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
    """An event loop on such a selector."""

    def __init__(self) -> None:
        self.selector = DrainingSelector()
        super().__init__(self.selector)

    def call_soon(self, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None) -> asyncio.Handle:
        """As ever; the selector waits no longer."""
        self.selector.stirred = True
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As ever; the selector looks anew how long it may wait."""
        self.selector.stirred = True
        return super().call_at(when, callback, *args, context=context)


def new_loop() -> asyncio.AbstractEventLoop:
    """The loop that a worker runs on: one that drains where the platform has epoll."""
    return DrainingLoop() if sys.platform == "linux" else asyncio.new_event_loop()


def add_drain(loop: asyncio.AbstractEventLoop, sock: socket.SocketType, drain: Drain) -> None:
    """Drains the socket on whatever loop this is: inside its selector where it can, else as one of its readers."""
    if isinstance(loop, DrainingLoop):
        loop.selector.add(sock.fileno(), drain)
    else:
        loop.add_reader(sock, drain)


def remove_drain(loop: asyncio.AbstractEventLoop, sock: socket.SocketType) -> None:
    """Leaves the socket alone."""
    if isinstance(loop, DrainingLoop):
        loop.selector.remove(sock.fileno())
    else:
        loop.remove_reader(sock)


def after_drains(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    """Calls when all drains of this wake-up are through; soon, where no drain is at work."""
    if isinstance(loop, DrainingLoop) and loop.selector.draining:
        loop.selector.afterwards.append(call)
    else:
        loop.call_soon(call)
