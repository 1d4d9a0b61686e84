"""A worker: its index built from the feed, its chains, its answer tables. It answers DNS and does nothing else.

It takes frames, sockets and a clock from outside, so that a test can run one inside its own process. Chains are built beside the ones
that serve and swapped in one step; index, tables' counters, caches and connections stay. Rules: every change that is applied drops
the compiled replies that rest on what it touched, in the same step; no work goes on for longer than a fraction of a millisecond
without the sockets being read.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import socket
from collections.abc import Callable
from itertools import chain
from time import perf_counter
from typing import Any, Final

import msgspec

from svcdns.chain.build import Chains, Peers, build
from svcdns.chain.plan import plan
from svcdns.cluster.changes import Dependency, EncodedChange
from svcdns.cluster.index import Index
from svcdns.cluster.watch_options import WatchOptions
from svcdns.errors import SvcdnsError
from svcdns.eventloop.clock import Clock
from svcdns.feed.frames import Allow, Configure, Configured, Data, EncodedChanged, Epoch, FrameReader, FromControl, Swap, ToControl, frame
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import rcode_only
from svcdns.plugins import BUILT, ORDER
from svcdns.process.heap import give_back
from svcdns.process.shared_memory import State
from svcdns.serving.listeners import Listening
from svcdns.serving.metrics_flush import fold
from svcdns.serving.transport.udp import SOCKET_DROPS
from svcdns.telemetry.counters import Counters
from svcdns.telemetry.logging import DroppedLines, plugin_logger
from svcdns.wire.codes import Rcode
from svcdns.worker.cache_handover import pack, unpack
from svcdns.worker.connection_handover import give, take

SLICE: Final = 0.0002
"""Seconds of other work after which the sockets are read."""
BEAT: Final = 1.0
HAND_OVER_PATIENCE: Final = 25.0
"""Seconds that a worker which has been replaced waits for questions in flight, and for connections to hand over."""
FAREWELL: Final = 1.0
"""Seconds that connections have to close which could not be handed over in that time."""
ROUNDS: Final = 5
"""Looks in a row that have to find nothing left: a connection that has just been accepted shows a moment later."""
DRAIN_PATIENCE: Final = 5.0
"""Seconds that a stop waits for questions in flight."""

log = logging.getLogger("svcdns")


def _nothing() -> None:
    return None


def load_plugin(name: str) -> Any:
    """The module of a directive that is built."""
    return importlib.import_module(BUILT[name])


class _Generation:
    """Chains of one Corefile, the callbacks of its plugins for data, and what they keep from chain to chain."""

    def __init__(self) -> None:
        self.chains = Chains()
        self.kept: set[tuple[Any, ...]] = set()
        self.on_data: dict[tuple[str, str], list[Callable[[bytes], None]]] = {}


class Worker:
    """Answers DNS from what control tells."""

    def __init__(self, slot: int, counters: Counters, clock: Clock, say: Callable[[bytes], None]) -> None:
        """`say` sends a frame's octets to control; it must not block."""
        self.slot, self.counters, self.clock, self._say = slot, counters, clock, say
        self.listening = Listening(counters, clock)
        self._indexes: dict[int, Index] = {}
        self._views: dict[bytes, int] = {}
        self._data: dict[tuple[str, str], bytes] = {}
        self._kept: dict[tuple[Any, ...], Any] = {}
        self._live = _Generation()
        self._built: dict[int, _Generation] = {}
        self._forgetful: list[Callable[[set[Dependency]], None]] = []
        self._ticking: list[Callable[[], None]] = []
        self._configured = self._draining = self._frozen = False
        self._share = 1.0
        self._last_breath = 0.0
        self._spilled = 0
        self._dropped_lines = DroppedLines(counters)
        self._reader = FrameReader[FromControl](FromControl)
        self._instruction: object = None

    # -- the feed

    def new_feed(self) -> None:
        """A new connection to control: half a frame of the old one is void."""
        self._reader = FrameReader[FromControl](FromControl)
        self._instruction = None

    def take(self, data: bytes) -> bool:
        """Octets of the feed. Changes show at once; whether there is something else among them, for which `obey` has to be called."""
        self._last_breath = perf_counter()
        self._reader.feed(data)
        return self._take_changes()

    async def obey(self) -> None:
        """Does what else has come, and takes the changes behind it."""
        while self._instruction is not None:
            instruction, self._instruction = self._instruction, None
            await self._instructed(instruction)
            self._take_changes()

    def _take_changes(self) -> bool:
        for content in self._reader.frames():
            match content:
                case EncodedChanged():
                    self._change(content.source, content.change)
                    self.poll_sockets()
                case _:
                    self._instruction = content
                    return True
        return False

    async def _instructed(self, content: Any) -> None:
        match content:
            case Configure():
                self._configure(content)
            case Swap():
                await self._swap(content.generation)
            case Data():
                self._take_data(content)
            case Epoch() | Allow():
                await self._allow(content.share)

    def _tell(self, content: ToControl) -> None:
        self._say(frame(content))

    def _change(self, source: int, change: EncodedChange) -> None:
        index = self._indexes.get(source)
        if index is None:
            return
        synced = index.synced
        touched = index.apply(change)
        if index.synced and not synced:
            self._freeze()
            self._invalidate_all()
            self._tick()
            self._show_state()
        elif touched:
            self._invalidate(touched)

    def _invalidate(self, dependencies: set[Dependency]) -> None:
        for table in self.listening.tables:
            table.invalidate(dependencies)
        for listener in self._live.chains.listeners.values():
            if listener.classes is not None:
                listener.classes.invalidate(dependencies)
        for invalidate in self._forgetful:
            invalidate(dependencies)

    def _tick(self) -> None:
        for tick in self._ticking:
            tick()

    def _invalidate_all(self) -> None:
        for table in self.listening.tables:
            table.clear()

    def _freeze(self) -> None:
        """What has been built stays: the garbage collector need not walk it again."""
        if all(index.synced for index in self._indexes.values()):
            gc.collect()
            gc.freeze()
            gc.set_threshold(10_000, 20, 1_000_000)
            self._frozen = True

    async def _allow(self, share: float) -> None:
        """The container's memory fills up, or has room again: answer tables and caches may have this part of their usual size."""
        less, self._share = share < self._share, share
        handlers = [handler for handler in self._live.chains.handlers if hasattr(handler, "shrink")]
        for _ in chain(self.listening.allow(share), *[handler.shrink(share) for handler in handlers]):
            if self.poll_sockets():
                await asyncio.sleep(0)  # connections and timers
        if less:
            give_back()

    def poll_sockets(self) -> bool:
        """Reads the sockets if other work has gone on for long enough; whether it has."""
        now = perf_counter()
        if now - self._last_breath <= SLICE:
            return False
        self.listening.drain()
        self._last_breath = perf_counter()
        return True

    # -- configuration

    def _configure(self, order: Configure) -> None:
        try:
            self._built = {order.generation: self._build(order)}
        except SvcdnsError as error:
            self._tell(Configured(order.generation, str(error)))
            return
        self._tell(Configured(order.generation))

    def _build(self, order: Configure) -> _Generation:
        self._views = {source.watch: source.number for source in order.sources}
        for source in order.sources:
            if source.number not in self._indexes:
                self._indexes[source.number] = Index(source.kinds)
        generation = _Generation()
        plans = plan(order.corefile, ORDER, load_plugin)

        def environment(block: Block, server: str, listen: tuple[tuple[str, int], ...], name: str, peers: Peers) -> Environment:
            bound = any(directive.name.text == "bind" for directive in block.others)
            return Environment(
                block=block,
                server=server,
                view="",
                counters=self.counters,
                clock=self.clock,
                ask=lambda query: self._ask(listen[0], query),
                log=plugin_logger(name),
                index=self._index_for,
                kept=lambda key, make: self._keep(generation, key, make),
                data=lambda plugin, key: self._data.get((plugin, key)),
                on_data=lambda plugin, key, call: generation.on_data.setdefault((plugin, key), []).append(call),
                invalidate=lambda dependencies: self._invalidate(set(dependencies)),
                invalidate_all=self._invalidate_all,
                publish=self._publish,
                allowance=lambda: self.listening.budget,
                poll_sockets=self.poll_sockets,
                first=self.slot == 0,
                peers=peers,
                local_addresses=() if bound else order.local_addresses,
                listen_addresses=listen,
            )

        generation.chains = build(plans, order.hosts, load_plugin, environment)
        for listener in generation.chains.listeners.values():
            if listener.transport == "tls":
                self.listening.certificates.check(listener.security)
        return generation

    def _ask(self, where: tuple[str, int], query: Query) -> Answer:
        listener = self._live.chains.listeners.get(where)
        return listener.ask(query) if listener is not None else rcode_only(Rcode.SERVFAIL, "not serving yet")

    def _index_for(self, watch: WatchOptions) -> Index:
        return self._indexes[self._views[msgspec.msgpack.encode(watch)]]

    def _keep(self, generation: _Generation, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        generation.kept.add(key)
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    async def _swap(self, generation: int) -> None:
        built = self._built.pop(generation, None)
        if built is None:
            return
        old, self._live = self._live, built
        self._forgetful = [h.invalidate for h in built.chains.handlers if hasattr(h, "invalidate")]
        self._ticking = [h.tick for h in built.chains.handlers if hasattr(h, "tick")]
        for source in [number for number in self._indexes if number not in self._views.values()]:
            del self._indexes[source]
        await self.listening.swap(built.chains.listeners)
        old.chains.stop()
        self._let_go(built.kept)
        built.chains.start()
        if self._share < 1:
            await self._allow(self._share)  # caches of a size that they had not before
        self._configured = True
        self._show_state()

    def _let_go(self, kept: set[tuple[Any, ...]]) -> None:
        """Ends what the chains that are gone have kept, and the live ones do not."""
        for key in [key for key in self._kept if key not in kept]:
            getattr(self._kept.pop(key), "stop", _nothing)()

    def _take_data(self, data: Data) -> None:
        key = (data.plugin, data.key)
        if data.plugin == "tls":
            self.listening.certificates.take(data.key, data.payload)
            return
        self._data[key] = data.payload
        for generation in (self._live, *self._built.values()):
            for call in generation.on_data.get(key, ()):
                call(data.payload)

    def _publish(self, plugin: str, key: str, payload: bytes) -> None:
        data = Data(plugin, key, payload)
        self._take_data(data)
        self._tell(data)

    # -- sockets

    async def sockets(self, add: list[Any], remove: list[int]) -> None:
        """Sockets from the supervisor."""
        await self.listening.sockets(add, remove)
        self._show_state()

    async def read(self, slots: frozenset[int]) -> None:
        """The slots whose sockets this worker reads from now on."""
        await self.listening.read(slots)
        self._show_state()

    def _show_state(self) -> None:
        if not self._configured or self._draining:
            return
        synced = all(index.synced for index in self._indexes.values()) and not self._live.chains.unready()
        if self.listening.reading:
            self.counters.state(State.SERVING if synced else State.SERVING_UNSYNCED)
        else:
            self.counters.state(State.SYNCED if synced else State.UNSYNCED)

    # -- once a second, and at the end

    def pulse(self) -> None:
        """Heartbeat."""
        self.counters.beat(self.clock())

    def beat(self) -> None:
        """Heartbeat, counters, state."""
        self.pulse()
        self._tick()
        self.fold()
        self._show_state()
        self._dropped_lines.fold()
        if self.counters.spilled > self._spilled:
            self._spilled = self.counters.spilled
            log.warning("no room for %d series of metrics: they are not counted", self._spilled)

    def fold(self) -> None:
        """Brings the counters up to date."""
        self.listening.divide()
        for responder in self.listening.responders:
            fold(responder, self.poll_sockets)
        for server, address, slot, drops in self.listening.drop_counts():
            if slot == self.slot:  # the kernel goes on counting those of a worker that is down; it reports them when it is back
                self.counters.set(self.counters.cell(SOCKET_DROPS, server, address, str(slot)), drops)

    async def drain(self) -> None:
        """Stops: what has arrived is answered, questions in flight are waited for, connections close behind their answers."""
        self._draining = True
        self.counters.state(State.DRAINING)
        await self.listening.stop()
        await self._close_connections(DRAIN_PATIENCE)
        self._end()

    async def _close_connections(self, patience: float) -> None:
        """Connections close behind their answers, and questions in flight are waited for, so many seconds at most."""
        self.listening.connections.drain()
        deadline = self.clock() + patience
        while (self.listening.in_flight or not self.listening.connections.none) and self.clock() < deadline:
            await asyncio.sleep(0.01)

    async def hand_over(self, sock: socket.socket) -> None:
        """Stops in favour of the worker at the other end of `sock`, which reads the same sockets already.

        What waits in them is that one's to answer; what plugins keep and connections go there, but for those over TLS; questions in flight
        are answered here.
        """
        self._draining = True
        self.counters.state(State.DRAINING)
        await self.listening.read(frozenset())
        deadline = self.clock() + HAND_OVER_PATIENCE
        idle = 0

        def going_on() -> bool:
            nonlocal idle
            idle = 0 if self.listening.in_flight or not self.listening.connections.none else idle + 1
            return idle < ROUNDS and self.clock() < deadline

        await give(self.listening.connections, sock, going_on, await pack(self._kept, self.clock()))
        await self._close_connections(FAREWELL)
        self._end()

    async def take_over(self, sock: socket.socket) -> None:
        """Takes over what the worker at the other end of `sock` hands over."""

        async def inherit(fd: int) -> None:
            log.debug("%d portions of what the worker before this one kept", await unpack(fd, self._kept, self.clock(), self.poll_sockets))

        await take(sock, self.listening.adopt, inherit)

    def _end(self) -> None:
        self._live.chains.stop()
        self.fold()
