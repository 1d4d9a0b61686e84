"""The program of a worker process: `svcdns.worker --slot K --region N --channel FD --shared FD`.

The supervisor starts it (`svcdns.process.isolated`). `--slot` is the number of the worker. `--channel` is the
descriptor of its socket to the supervisor. `--shared` is the descriptor of the shared memory, and `--region` is the
worker's region there.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from time import monotonic
from typing import Any

from svcdns.eventloop.loop import add_drain, new_loop, remove_drain
from svcdns.log_line import LogLine
from svcdns.process import cookie_secrets, sample_memory
from svcdns.process.channel import Channel, ChannelBrokenError, ChannelClosedError, Message
from svcdns.process.descriptors import grow_descriptor_table, raise_descriptor_limit
from svcdns.process.parent_death import die_with_parent
from svcdns.process.quick_exit import exit_quickly
from svcdns.process.scheduling import give_way, request_short_slices, shorten_switch_interval
from svcdns.process.shared_memory import ENCRYPTED_SLOT, regions
from svcdns.serving.listening_sockets import SocketDescription
from svcdns.telemetry import logging as log_lines
from svcdns.telemetry.counters import Counters
from svcdns.worker.worker import UPDATE_INTERVAL, Worker, log

FEED_CHUNK = 65536
HEARTBEATS = 4
"""The number of heartbeats between two updates of the metrics.

The more heartbeats, the sooner other workers read the sockets of a worker that stalls.
"""
ACCELERATOR = "SVCDNS_ACCELERATOR"
"""The environment variable with the socket of `svcdns accelerate` (docs/accelerator.md). Without it, there is none."""
MAX_FEED_READS = 4
"""The most reads of the feed before a heartbeat of the accelerator."""
GC_THRESHOLD = 10_000
"""The number of new objects after which the garbage collector runs.

It is high, because the index makes many objects, and none of them in a reference cycle.
"""


class _Process:
    """A worker with its two connections: one to the supervisor, and one to the control process."""

    def __init__(
        self,
        slot: int,
        channel: Channel,
        counters: Counters,
        secrets: memoryview,
        samples: Callable[[], memoryview],
    ) -> None:
        self._channel = channel
        self._feed: socket.socket | None = None
        self._unsent: deque[bytes] = deque()
        self._instructed = asyncio.Event()
        self._is_following = False
        """True while instructions of control run, and changes after them wait."""
        self._taking_over: asyncio.Future[None] | None = None
        self._giving_keys: asyncio.Future[None] | None = None
        self.worker = Worker(slot, counters, monotonic, self._send, secrets, samples)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._instructions: asyncio.Queue[Message] = asyncio.Queue()
        asyncio.get_running_loop().add_reader(channel.fileno(), self._receive_from_supervisor)

    async def run(self) -> None:
        """Runs until the supervisor stops this worker, or until the supervisor itself has ended."""
        tasks = [asyncio.ensure_future(step()) for step in (self._update, self._follow_supervisor, self._follow_feed)]
        tasks.append(asyncio.ensure_future(self._until_done()))
        address = os.environ.get(ACCELERATOR, "")
        if address and self.worker.slot == 0:
            tasks.append(asyncio.ensure_future(self._accelerate(address)))
        finished, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in finished:
            task.result()

    async def _until_done(self) -> None:
        await self.done

    async def _update(self) -> None:
        while True:
            await self.worker.update()
            for _ in range(HEARTBEATS):
                await asyncio.sleep(UPDATE_INTERVAL / HEARTBEATS)
                self.worker.heartbeat()

    async def _accelerate(self, address: str) -> None:
        """Lets the kernel answer queries, as long as the worker has applied all changes from control."""
        from svcdns.accelerator.owner import Accelerator

        worker = self.worker
        accelerator = worker.accelerator = Accelerator(address, worker.listeners, worker.counters, worker.clock)
        while True:
            accelerator.heartbeat(self._is_current)
            await asyncio.sleep(UPDATE_INTERVAL / HEARTBEATS)

    def _is_current(self) -> bool:
        """Reads the feed, and returns True if all changes that have arrived are applied."""
        for _ in range(MAX_FEED_READS):
            feed = self._feed
            if feed is None or self._instructed.is_set() or self._is_following:
                return False
            try:
                if not feed.recv(1, socket.MSG_PEEK):
                    return True  # control has ended: no change comes
            except BlockingIOError:
                return True
            except OSError:
                return False
            self._drain_feed()
        return False

    def _receive_from_supervisor(self) -> None:
        try:
            for message in self._channel.receive():
                self._instructions.put_nowait(message)
        except ChannelClosedError as error:
            if isinstance(error, ChannelBrokenError):
                log.error(LogLine("ending, as the supervisor's messages cannot be read", error=error))
            if not self.done.done():
                self.done.set_result(None)

    async def _follow_supervisor(self) -> None:
        handing_over: asyncio.Task[None] | None = None
        while True:
            message = await self._instructions.get()
            match message["op"]:
                case "feed":
                    self._take_feed(socket.socket(fileno=message["fds"][0]))
                case "sockets":
                    add = [
                        (SocketDescription(**about), fd)
                        for about, fd in zip(message["add"], message["fds"], strict=True)
                    ]
                    await self.worker.sockets(add, message["remove"])
                case "read":
                    await self.worker.read(frozenset(message["slots"]))
                case "note-keys":
                    self.worker.note_keys()
                case "give-keys":
                    self._giving_keys = asyncio.ensure_future(
                        self.worker.give_keys(socket.socket(fileno=message["fds"][0]))
                    )
                case "take-keys":
                    await self.worker.take_keys(socket.socket(fileno=message["fds"][0]))
                case "take-over":
                    self._taking_over = asyncio.ensure_future(
                        self.worker.take_over(socket.socket(fileno=message["fds"][0]))
                    )
                case "hand-over":
                    handing_over = self._end(self.worker.hand_over(socket.socket(fileno=message["fds"][0])))
                case "end-behind-answers" if message.get("close"):
                    self.worker.close_present()
                case "end-behind-answers":
                    self.worker.announce_end()
                case "drain" if handing_over is not None:
                    self.worker.end_hand_over()
                case "drain":
                    await self._end(self.worker.drain())
                    return

    def _end(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs `work`, which ends the worker's service, as a task. The process ends after the task."""
        task = asyncio.ensure_future(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if self.done.done():
            return
        if error is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(None)

    def _take_feed(self, feed: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        if self._feed is not None:
            remove_drain(loop, self._feed)
            loop.remove_writer(self._feed)
            self._feed.close()
        self._unsent.clear()
        self.worker.new_feed()
        feed.setblocking(False)
        self._feed = feed
        add_drain(loop, feed, self._drain_feed)

    def _drain_feed(self) -> None:
        """Reads the feed once, and applies the changes of the cluster.

        Stops at any other instruction, such as the swap of plugin chains.
        """
        feed = self._feed
        if feed is None:
            return
        try:
            data = feed.recv(FEED_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        instructed = bool(data) and self.worker.receive(data)
        if instructed or not data:
            remove_drain(asyncio.get_running_loop(), feed)
        if instructed:
            self._instructed.set()

    async def _follow_feed(self) -> None:
        while True:
            await self._instructed.wait()
            self._instructed.clear()
            feed = self._feed
            self._is_following = True
            await self.worker.run_instructions()
            self._is_following = False
            if feed is not None and feed is self._feed:
                add_drain(asyncio.get_running_loop(), feed, self._drain_feed)

    def _send(self, data: bytes) -> None:
        if self._feed is None:
            return
        self._unsent.append(data)
        self._flush()

    def _flush(self) -> None:
        feed = self._feed
        if feed is None:
            return
        loop = asyncio.get_running_loop()
        while self._unsent:
            try:
                sent = feed.send(self._unsent[0])
            except BlockingIOError:
                loop.add_writer(feed, self._flush)
                return
            except OSError:
                self._unsent.clear()
                break
            if sent < len(self._unsent[0]):
                self._unsent[0] = self._unsent[0][sent:]
            else:
                self._unsent.popleft()
        loop.remove_writer(feed)


async def _run(slot: int, region: int, channel: Channel, counters: Counters, shared: int) -> None:
    samples = partial(sample_memory.ring, shared, region)
    await _Process(slot, channel, counters, cookie_secrets.page(shared), samples).run()


def main() -> int:
    """Runs one worker. Returns 0 when the supervisor has stopped the worker, or has ended."""
    parser = argparse.ArgumentParser(prog="svcdns.worker")
    parser.add_argument("--slot", type=int, required=True)
    parser.add_argument("--region", type=int, required=True)
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--shared", type=int, required=True)
    arguments = parser.parse_args()
    die_with_parent()
    if arguments.slot == ENCRYPTED_SLOT:
        give_way()
    else:
        request_short_slices()
    shorten_switch_interval()
    raise_descriptor_limit()
    grow_descriptor_table()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 1_000_000)
    lines = log_lines.set_up()
    counters = Counters(regions(arguments.shared)[arguments.region])
    channel = Channel(socket.socket(fileno=arguments.channel))
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(_run(arguments.slot, arguments.region, channel, counters, arguments.shared))
    finally:
        lines.close()
    return 0


if __name__ == "__main__":
    exit_quickly(main())
