"""Sends spans to a collector from a thread of its own, so that no query waits for the collector.

Rules: at most `backlog` spans wait; then the oldest are dropped, as in CoreDNS. A request that fails is not repeated:
its spans are dropped. Dropped spans are counted. The thread starts with the first span.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from time import monotonic
from typing import Final

from svcdns.plugins.trace.options import Collector
from svcdns.plugins.trace.spans import RecordedSpan

FLUSH_TIMEOUT: Final = 1.0
"""The seconds that the end of a worker waits for the last request."""
PAUSE: Final = 0.01

Local = tuple[str, int] | None
"""The address and the port that the server block listens on; None for all addresses."""


@dataclass(slots=True)
class Counts:
    """The spans that were exported, and those that were dropped: by the full queue, or by failed requests.

    `failure` is the reason why the last request failed.
    """

    exported: int = 0
    queue: int = 0
    collector: int = 0
    failure: str = ""


class Exporter:
    """The queue and the thread of one collector. Blocks with the same collector share the exporter."""

    def __init__(self, collector: Collector, local: Local) -> None:
        """Starts nothing."""
        self._collector, self._local = collector, local
        self._changed = threading.Condition()
        self._traces: list[list[RecordedSpan]] = []
        self._waiting = 0
        self._counts = Counts()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def put(self, spans: list[RecordedSpan]) -> None:
        """Queues spans that have ended. Drops the oldest traces if too many spans wait."""
        with self._changed:
            before = self._waiting
            self._traces.append(spans)
            self._waiting += len(spans)
            if self._waiting > self._collector.backlog:
                self._shorten()
            if not before or before < self._collector.batch <= self._waiting:
                self._changed.notify()
            if self._thread is None:
                self._start()

    def _shorten(self) -> None:
        number = 0
        while self._waiting > self._collector.backlog:
            dropped = len(self._traces[number])
            self._waiting -= dropped
            self._counts.queue += dropped
            number += 1
        del self._traces[:number]

    def take_counts(self) -> Counts:
        """Returns the numbers since the last call."""
        with self._changed:
            counts, self._counts = self._counts, Counts()
        return counts

    def stop(self) -> None:
        """Lets the thread send what waits, and end. Does not wait for it."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    async def finish(self) -> None:
        """Does the same as `stop`, and waits for the thread, at most FLUSH_TIMEOUT seconds."""
        self.stop()
        thread, ends = self._thread, monotonic() + FLUSH_TIMEOUT
        while thread is not None and thread.is_alive() and monotonic() < ends:
            await asyncio.sleep(PAUSE)

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="trace", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        from svcdns.plugins.trace.send import Sending  # with OpenTelemetry: 0.04 s of CPU time and 8 MiB

        sending = Sending(self._collector, self._local)
        while True:
            spans = self._next()
            if not spans:
                sending.close()
                return
            failure = sending.send(spans)
            with self._changed:
                if failure:
                    self._counts.collector += len(spans)
                    self._counts.failure = failure
                else:
                    self._counts.exported += len(spans)

    def _next(self) -> list[RecordedSpan]:
        """Waits for a batch or the end of the interval, and returns all waiting spans; none at the end."""
        changed, collector = self._changed, self._collector
        with changed:
            changed.wait_for(lambda: self._waiting or self._stopping)
            changed.wait_for(lambda: self._waiting >= collector.batch or self._stopping, collector.interval)
            traces, self._traces, self._waiting = self._traces, [], 0
        return [span for spans in traces for span in spans]
