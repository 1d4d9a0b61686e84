"""The queue of frames to one worker, and the connection over which they are sent.

Rules:

1. The queue holds keys of objects. An object that changes several times before its frame is sent is sent once, with its
   latest value. So the memory for a slow worker is bounded.
2. Frames without an object (configuration, the end of a list) keep their position relative to the objects.
3. While a whole cluster view is being sent, changes of the view are sent before the rest of the view.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from enum import StrEnum
from itertools import islice
from math import inf
from typing import Final, NamedTuple

from svcdns.cluster.changes import Begin, Complete, Confirmed, Gone, Serials
from svcdns.control.cluster_view import ClusterView, ViewKey
from svcdns.eventloop.time_slice import TimeSlice
from svcdns.feed.frames import Changed, Epoch, FrameReader, ToControl, ToWorker, frame, put_frame

CHUNK: Final = 65536
"""Octets of one write: frames are joined until they have at least so many."""
FLUSH_INTERVAL: Final = 0.002
"""Seconds after frames were sent for which `flush` leaves further frames to the next iteration of the event loop."""
BATCH: Final = 64
SEND_SLICE: Final = 0.002
"""Seconds for which one worker's frames are sent before other work of the event loop has its turn."""
"""Frames that are encoded before the size of the write is checked again."""


class Property(StrEnum):
    """A property of a cluster view. Workers get its latest value when it has changed."""

    SERIALS = "serials"
    CONFIRMED = "confirmed"


class ViewProperty(NamedTuple):
    """The key of a queue entry for a property of a cluster view, such as its SOA serials.

    The value is read from the view when the frame is sent.
    """

    source: int
    name: Property


QueueKey = ViewKey | ViewProperty | int
"""The key of a queue entry; a number is the key of a frame that is already encoded."""


class FeedQueue:
    """Sends frames to one worker, and receives the worker's frames."""

    def __init__(
        self,
        number: int,
        sock: socket.socket,
        views: Mapping[int, ClusterView],
        received: Callable[[int, ToControl | None], None],
    ) -> None:
        """`number` identifies the worker. `views` has the cluster views by number.

        `received` is called with each frame from the worker, and with None at the end of the connection.
        """
        self.number, self._sock, self._views, self._received = number, sock, views, received
        self._queue: dict[QueueKey, bytes | None] = {}
        """The encoded frame of each entry; None where the frame is encoded only when it is sent."""
        self._urgent: dict[ViewKey, None] = {}
        self._begun: dict[int, int] = {}
        """For each view, the queue key of its last Begin frame.

        Once that frame is sent, objects of the view may be sent in any order.
        """
        self._unsent = b""
        self._last_number = 0
        self._scheduled: asyncio.Handle | None = None
        self._blocked = False
        self._flushed_at = 0.0
        self.closed = False
        self._reader = FrameReader[ToControl](ToControl)
        self._loop = asyncio.get_running_loop()
        sock.setblocking(False)
        self._loop.add_reader(sock, self._readable)

    def begin(self, epoch: int, share: float = 1.0) -> None:
        """Queues the first frame of the connection.

        `epoch` is the number of this control process. `share` is the permitted size of answer tables and caches,
        relative to their usual size.
        """
        self.put(Epoch(epoch, share))

    def put(self, content: ToWorker) -> None:
        """Queues a frame. Raises FrameTooLargeError."""
        self.put_frame(frame(content))

    def put_frame(self, octets: bytes) -> None:
        """Queues a frame that is already encoded."""
        self._last_number += 1
        self._queue[self._last_number] = octets
        self._schedule()

    def changed(self, key: ViewKey) -> None:
        """Queues an object that was changed or removed. The value of the object is read from the cluster view when the
        frame is sent.

        While the whole view is being sent, the object is put before the rest of the view.
        """
        begun = self._begun.get(key.source)
        if begun is not None and begun not in self._queue:
            self._queue.pop(key, None)
            self._urgent[key] = None
            self._schedule()
        elif key not in self._queue:
            self._queue[key] = None
            self._schedule()

    def serials(self, view: ClusterView) -> None:
        """Queues a cluster view's SOA serials, unless they are queued already."""
        self._queue[ViewProperty(view.number, Property.SERIALS)] = None
        self._schedule()

    def confirmed(self, view: ClusterView) -> None:
        """Queues the time at which the source last confirmed a cluster view, unless it is queued already."""
        self._queue[ViewProperty(view.number, Property.CONFIRMED)] = None
        self._schedule()

    def whole_view(self, view: ClusterView) -> None:
        """Queues all objects of a cluster view, as one list for each kind.

        The frames that begin the lists are queued first, so that a changed object can be sent at any time after them. A
        list does not get its end frame if the source has not listed this kind completely.
        """
        self.confirmed(view)
        for kind in view.kinds:
            self.put(Changed(view.number, Begin(kind)))
        self._begun[view.number] = self._last_number
        for kind in view.kinds:
            for key in view.keys(kind):
                self._urgent.pop(key, None)
                self._queue.pop(key, None)
                self._queue[key] = None
            if kind in view.completed:
                self.put(Changed(view.number, Complete(kind)))
        self.serials(view)

    def close(self) -> None:
        """Closes the connection, and calls `received` with None."""
        if not self.closed:
            self.closed = True
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()
            self._received(self.number, None)

    def _schedule(self) -> None:
        if self._scheduled is None and not self._blocked:
            self._scheduled = self._loop.call_soon(self._flush)

    def flush(self) -> None:
        """Sends queued frames now, for at most SEND_SLICE seconds.

        If frames were sent less than FLUSH_INTERVAL seconds ago, does nothing: the next iteration of the event loop
        then sends the frames together.
        """
        if self._scheduled is not None and self._loop.time() - self._flushed_at > FLUSH_INTERVAL:
            self._scheduled.cancel()
            self._flush()

    def _flush(self) -> None:
        self._scheduled = None
        if self.closed:
            return
        self._flushed_at = self._loop.time()
        time_slice = TimeSlice(SEND_SLICE)
        try:
            while self._unsent or self._urgent or self._queue:
                if not self._unsent:
                    self._unsent = self._next_frames()
                sent = self._sock.send(self._unsent)
                self._unsent = self._unsent[sent:]
                if time_slice.is_over:
                    self._schedule()  # if `_flush` is called as a writer, the event loop calls it again anyway
                    return
        except BlockingIOError:
            if not self._blocked:
                self._blocked = True
                self._loop.add_writer(self._sock, self._flush)
            return
        except OSError:
            self.close()
            return
        if self._blocked:
            self._blocked = False
            self._loop.remove_writer(self._sock)

    def _next_frames(self) -> bytes:
        """Removes frames from the front of the queue, and returns them joined: about CHUNK octets, if there are so
        many.
        """
        parts: list[bytes] = []
        size = 0
        for changed in list(islice(self._urgent, BATCH)):
            del self._urgent[changed]
            parts.append(self._frame(changed))
        while self._queue and size < CHUNK and not self._urgent:
            # Takes BATCH entries at a time: the search for a dict's first entry passes every entry removed before it.
            for key in list(islice(self._queue, BATCH)):
                ready = self._queue.pop(key)
                part = ready if ready is not None else self._frame(key)
                parts.append(part)
                size += len(part)
        return b"".join(parts)

    def _frame(self, key: QueueKey) -> bytes:
        assert not isinstance(key, int)
        view = self._views.get(key.source)
        match key:
            case ViewKey():
                encoded = view.encoded(key) if view is not None else None
                if encoded is not None:
                    return put_frame(key.source, encoded)
                return frame(Changed(key.source, Gone(key.kind, key.namespace, key.name)))
            case ViewProperty(name=Property.CONFIRMED):
                return frame(Changed(key.source, Confirmed(view.confirmed_at if view is not None else inf)))
            case ViewProperty():
                return frame(Changed(key.source, view.serials if view is not None else Serials()))

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
            self._received(self.number, content)
