"""The feeds to the workers: what each one has still to be told.

A queue per worker holds keys, not values: an object that changes again before it was sent is sent once, with its latest value, so a
slow worker costs memory for the cluster once and no more. Frames that are no objects (configuration, completions) keep their place
among them. While a worker is being told all of a view, what changes overtakes what does not: a worker that a new control has taken over
hears of changes at once, and not behind the whole cluster."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from itertools import islice
from math import inf

from svcdns.cluster.changes import Begin, Complete, Confirmed, Gone, Serials
from svcdns.control.cluster_view import Key, View
from svcdns.feed.frames import Changed, Epoch, FrameReader, ToControl, ToWorker, frame, put_frame

CHUNK = 65536
"""Octets of frames put together for one write, or a few frames more."""
TAKEN = 64
"""Frames put together between two looks at the octets."""


class Feed:
    """One worker's connection."""

    def __init__(self, number: int, sock: socket.socket, views: Mapping[int, View], heard: Callable[[int, ToControl | None], None]) -> None:
        """`number` is the worker's; `views` are read when objects are sent; `heard` takes what the worker says, and None at its end."""
        self.number, self._sock, self._views, self._heard = number, sock, views, heard
        self._pending: dict[Key | int | tuple[str, int], bytes | None] = {}
        self._urgent: dict[Key, None] = {}
        self._begun: dict[int, int] = {}
        """By view: the frame behind which the worker takes its objects in any order."""
        self._unsent = b""
        self._next = 0
        self._scheduled = self._writing = False
        self.closed = False
        self._reader = FrameReader[ToControl](ToControl)
        self._loop = asyncio.get_running_loop()
        sock.setblocking(False)
        self._loop.add_reader(sock, self._readable)

    def begin(self, epoch: int, share: float = 1.0) -> None:
        """Opens the feed."""
        self.put(Epoch(epoch, share))

    def put(self, content: ToWorker) -> None:
        """Queues a frame. Raises FrameTooLargeError."""
        self.put_frame(frame(content))

    def put_frame(self, octets: bytes) -> None:
        """Queues a frame that is encoded already."""
        self._next += 1
        self._pending[self._next] = octets
        self._wake()

    def tell(self, key: Key) -> None:
        """Queues an object's present value, or its absence: before all else, where the worker knows already what it belongs to."""
        begun = self._begun.get(key.source)
        if begun is not None and begun not in self._pending:
            self._pending.pop(key, None)
            self._urgent[key] = None
            self._wake()
        elif key not in self._pending:
            self._pending[key] = None
            self._wake()

    def serials(self, view: View) -> None:
        """Queues a view's serials; those of last time, if still queued, are replaced."""
        self._pending[("serials", view.number)] = None
        self._wake()

    def confirmed(self, view: View) -> None:
        """Queues the moment of a view's last confirmation, in place of the one of last time."""
        self._pending[("confirmed", view.number)] = None
        self._wake()

    def everything(self, view: View) -> None:
        """Queues all of a view, as a list of each kind that ends once its source has told all.

        All lists begin first: so an object may be told at any time behind that.
        """
        self.confirmed(view)
        for kind in view.kinds:
            self.put(Changed(view.number, Begin(kind)))
        self._begun[view.number] = self._next
        for kind in view.kinds:
            for key in view.keys(kind):
                self._urgent.pop(key, None)
                self._pending.pop(key, None)
                self._pending[key] = None
            if kind in view.completed:
                self.put(Changed(view.number, Complete(kind)))
        self.serials(view)

    def close(self) -> None:
        """Ends the connection."""
        if not self.closed:
            self.closed = True
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()
            self._heard(self.number, None)

    def _wake(self) -> None:
        if not self._scheduled and not self._writing:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self.closed:
            return
        try:
            while self._unsent or self._urgent or self._pending:
                if not self._unsent:
                    self._unsent = self._take()
                sent = self._sock.send(self._unsent)
                self._unsent = self._unsent[sent:]
        except BlockingIOError:
            if not self._writing:
                self._writing = True
                self._loop.add_writer(self._sock, self._flush)
            return
        except OSError:
            self.close()
            return
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._sock)

    def _take(self) -> bytes:
        """The next frames, in order, up to a chunk."""
        parts: list[bytes] = []
        size = 0
        for changed in list(islice(self._urgent, TAKEN)):
            del self._urgent[changed]
            parts.append(self._frame(changed))
        while self._pending and size < CHUNK and not self._urgent:
            # Many at a time: to find the first one costs a step for each that was taken before it.
            for key in list(islice(self._pending, TAKEN)):
                ready = self._pending.pop(key)
                part = ready if ready is not None else self._frame(key)
                parts.append(part)
                size += len(part)
        return b"".join(parts)

    def _frame(self, key: object) -> bytes:
        if isinstance(key, Key):
            view = self._views.get(key.source)
            found = view.encoded(key) if view is not None else None
            if found is not None:
                return put_frame(key.source, found)
            return frame(Changed(key.source, Gone(key.kind, key.namespace, key.name)))
        assert isinstance(key, tuple)
        what, number = key
        view = self._views.get(number)
        if what == "confirmed":
            return frame(Changed(number, Confirmed(view.confirmed_at if view is not None else inf)))
        return frame(Changed(number, view.serials if view is not None else Serials()))

    def _readable(self) -> None:
        try:
            data = self._sock.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._reader.feed(data)
        for content in self._reader.frames():
            self._heard(self.number, content)
