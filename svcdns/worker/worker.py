"""A worker: answers DNS from an index of the cluster, plugin chains, and answer tables.

The control process sends the configuration and all changes of the cluster as frames of the feed. Rules:

1. A change and the removal of all stored replies that depend on it are one step.
2. The sockets are read again after each fraction of a millisecond of other work. Long work is done in steps.
3. An exception of a plugin's hook is logged and counted in `coredns_panics_total`. Such an exception never ends the
   worker.
4. At a reload, new chains are built while the old ones serve. The index, counters, caches and connections stay.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from svcdns import plugins
from svcdns.chain.build import Chains, ListenerKey, Peers, build
from svcdns.chain.kept_routes import kept_routes
from svcdns.chain.plan import own_blocks, plan
from svcdns.chain.routing import CONFIGURATION
from svcdns.cluster.changes import Dependency, EncodedChange
from svcdns.cluster.index import Index
from svcdns.cluster.watch_options import WatchOptions, encode_watch
from svcdns.corefile.transports import TLS_REQUIRED
from svcdns.errors import SvcdnsError
from svcdns.eventloop.clock import Clock
from svcdns.eventloop.time_slice import TimeSlice
from svcdns.feed.frames import (
    Allow,
    Call,
    Configure,
    Configured,
    Data,
    EncodedChanged,
    Epoch,
    FrameReader,
    FromControl,
    Swap,
    ToControl,
    frame,
)
from svcdns.log_line import LogLine
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.errors import HookError
from svcdns.plugin_api.hooks import PANICS, HookCaller
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import rcode_only
from svcdns.plugin_api.reuse import apart
from svcdns.process.heap import release_free_memory
from svcdns.process.sample_memory import private_ring
from svcdns.process.shared_memory import ENCRYPTED_SLOT, State
from svcdns.serving.answer_keys import AnswerKeys, SampledKeys, note_used_keys
from svcdns.serving.cookies import Cookies
from svcdns.serving.listeners import Listeners
from svcdns.serving.metrics_flush import flush
from svcdns.serving.transport.udp import SOCKET_DROPS
from svcdns.telemetry.counters import Counters
from svcdns.telemetry.logging import DroppedLines, plugin_logger
from svcdns.wire.codes import Rcode
from svcdns.worker import calls
from svcdns.worker.cache_handover import pack, unpack
from svcdns.worker.connection_handover import give_file, take
from svcdns.worker.shutdown import Shutdown

if TYPE_CHECKING:
    from svcdns.accelerator.owner import Accelerator

UPDATE_INTERVAL: Final = 1.0
"""The seconds between two updates of the metrics."""

GC_THRESHOLDS: Final = (1_000, 200, 1_000_000)
"""The thresholds of the garbage collector once the index is complete (gc.set_threshold()).

The first one is low, because a collection takes up to 1 ms for each 1,000 objects that were made since the last one.
"""

KEYS_TIMEOUT: Final = 1.5
"""The seconds for which a new worker waits for the replies to the keys of its predecessor."""
_ANSWER_KEYS: Final = ("answer keys",)

log = logging.getLogger("svcdns")
_END: Final = object()


def _nothing() -> None:
    return None


class _Generation:
    """The plugin chains of one Corefile, the data callbacks of its plugins, and the keys of the plugins' kept
    objects.
    """

    def __init__(self, hooks: HookCaller) -> None:
        self.chains = Chains(hooks)
        self.debug = False
        self.kept: set[tuple[Any, ...]] = set()
        self.on_data: dict[tuple[str, str], list[Callable[[bytes], None]]] = {}


class Worker:
    """Answers DNS from the configuration and the data that the control process sends."""

    def __init__(
        self,
        slot: int,
        counters: Counters,
        clock: Clock,
        send: Callable[[bytes], None],
        secrets: memoryview,
        samples: Callable[[], memoryview] = private_ring,
    ) -> None:
        """`slot` is the number of the worker. `secrets` is the shared memory with the secrets of DNS cookies.

        `samples` returns the shared memory for samples of queries.

        `send` sends the octets of a frame to the control process. `send` must not block.
        """
        self.slot, self.counters, self.clock, self._send = slot, counters, clock, send
        self._encrypted = slot == ENCRYPTED_SLOT
        """True for the worker for encrypted transports."""
        self.listeners = Listeners(counters, clock, Cookies(secrets), samples)
        self.accelerator: Accelerator | None = None
        """Answers queries in the kernel; None if it is not configured. Set it before the worker reads sockets."""
        self._shutdown = Shutdown(self.listeners, clock)
        self._indexes: dict[int, Index] = {}
        self._views: dict[bytes, int] = {}
        self._data: dict[tuple[str, str], bytes] = {}
        self._kept: dict[tuple[Any, ...], Any] = {}
        self._hooks = HookCaller(counters)
        self._live = _Generation(self._hooks)
        self._built: dict[int, _Generation] = {}
        self._storing: list[Plugin] = []
        """The plugins that store replies."""
        self._configured = self._draining = False
        self._share = 1.0
        self._since_poll = TimeSlice()
        self._updating = asyncio.Lock()
        self._overflowed = 0
        self._dropped_lines = DroppedLines(counters)
        self._reader = FrameReader[FromControl](FromControl)
        self._instruction: object = None
        self._calls: set[asyncio.Task[None]] = set()

    # -- the feed

    def new_feed(self) -> None:
        """Begins a new connection to the control process, and drops an incomplete frame of the previous one."""
        self._reader = FrameReader[FromControl](FromControl)
        self._instruction = None

    def receive(self, data: bytes) -> bool:
        """Applies the changes in `data`, octets from the control process.

        Returns True if `run_instructions` must be called.
        """
        self._since_poll.restart()
        self._reader.feed(data)
        return self._apply_changes()

    async def run_instructions(self) -> None:
        """Carries out the instructions of the control process, such as the swap of plugin chains, and the changes after
        them.
        """
        while self._instruction is not None:
            instruction, self._instruction = self._instruction, None
            await self._run(instruction)
            self._apply_changes()

    def _apply_changes(self) -> bool:
        affected: set[Dependency] = set()
        try:
            for content in self._reader.frames():
                if not isinstance(content, EncodedChanged):
                    self._instruction = content
                    return True
                affected |= self._change(content.source, content.change)
                if self._since_poll.is_over:
                    if affected:
                        self._invalidate(affected)
                        affected = set()
                    self.poll_sockets()
        finally:
            if affected:
                self._invalidate(affected)
        return False

    async def _run(self, content: Any) -> None:
        match content:
            case Configure():
                self._configure(content)
            case Swap():
                await self._swap(content.generation)
            case Data():
                self._take_data(content)
            case Call():
                self._calls.add(call := asyncio.create_task(self._return(content)))
                call.add_done_callback(self._calls.discard)
            case Epoch() | Allow():
                await self._allow(content.share)

    async def _return(self, call: Call) -> None:
        self._tell(await calls.run(call, self))

    def _tell(self, content: ToControl) -> None:
        self._send(frame(content))

    def _change(self, source: int, change: EncodedChange) -> set[Dependency]:
        """Applies a change to its index.

        Returns the dependencies whose replies must be dropped before the sockets are read again.
        """
        index = self._indexes.get(source)
        if index is None:
            return set()
        synced = index.synced
        affected = index.apply(change)
        if index.synced and not synced:
            self._freeze()
            self._invalidate_all()
            self._live.chains.tick()
            self._show_state()
        return affected

    def _invalidate(self, dependencies: set[Dependency]) -> None:
        for table in self.listeners.tables:
            table.invalidate(dependencies)
        for listener in self._live.chains.listeners.values():
            if listener.classes is not None:
                listener.classes.invalidate(dependencies)
        for handler in self._storing:
            self._hooks.call(handler.name, None, handler.invalidate, dependencies)

    def _invalidate_all(self) -> None:
        for table in self.listeners.tables:
            table.clear()

    def _freeze(self) -> None:
        """Excludes the objects of the index from garbage collection when all of them have arrived."""
        if all(index.synced for index in self._indexes.values()):
            gc.collect()
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)

    async def _allow(self, share: float) -> None:
        """Sets the size of answer tables and caches to `share` of their usual size."""
        less, self._share = share < self._share, share
        handlers = self._live.chains.having("shrink")
        await self.in_steps(
            chain(self.listeners.allow(share), *[self._shrinking(handler, share) for handler in handlers])
        )
        if less:
            release_free_memory()

    def plugins_with(self, hook: str) -> list[Plugin]:
        """Returns the plugins of the present chains that override a hook."""
        return self._live.chains.having(hook)

    async def in_steps(self, steps: Iterator[None]) -> None:
        """Runs all `steps`. Other work runs between them."""
        for _ in steps:
            if self.poll_sockets():
                await asyncio.sleep(0)  # lets connections and timers run
                self.heartbeat()

    def _shrinking(self, handler: Plugin, share: float) -> Iterator[None]:
        steps = self._hooks.call(handler.name, iter(()), handler.shrink, share)
        while self._hooks.call(handler.name, _END, next, steps, _END) is not _END:
            yield

    def poll_sockets(self) -> bool:
        """Reads the sockets if other work has taken longer than a time slice. Returns True if the sockets were read."""
        if not self._since_poll.is_over:
            return False
        self.listeners.drain()
        self._since_poll.restart()
        return True

    # -- configuration

    def _configure(self, order: Configure) -> None:
        try:
            self._built = {order.generation: self._build(order)}
        except SvcdnsError as error:
            log.setLevel(logging.DEBUG if self._live.debug else logging.INFO)
            if isinstance(error, HookError):
                self.counters.count(PANICS)
            self._tell(Configured(order.generation, str(error), takes_calls=True))
        except Exception as error:  # noqa: BLE001 - a mistake of a plugin must not end the worker
            self._hooks.failed(error, "building the chains")
            self._tell(Configured(order.generation, f"{type(error).__name__}: {error}", takes_calls=True))
        else:
            self._tell(Configured(order.generation, takes_calls=True))

    def _build(self, order: Configure) -> _Generation:
        directives = {directive.name.text for block in order.corefile.blocks for directive in block.directives}
        every = plan(order.corefile, plugins.known(directives)[0], plugins.load)
        plans, hosts = own_blocks(every, order.hosts, encrypted=self._encrypted)
        watched = {encode_watch(one.watch) for block in plans for one in block.settings.values() if one.watch}
        self._views = {source.watch: source.number for source in order.sources if source.watch in watched}
        for source in order.sources:
            if source.number not in self._indexes and source.watch in watched:
                self._indexes[source.number] = Index(source.kinds)
        generation = _Generation(self._hooks)
        generation.debug = any(settings.debug for block in plans for settings in block.settings.values())
        if generation.debug:
            log.setLevel(logging.DEBUG)

        elsewhere = {block.directives for block in own_blocks(every, order.hosts, encrypted=False)[0]}

        def environment(
            block: Block, server: str, listen: tuple[tuple[str, int], ...], name: str, peers: Peers
        ) -> Environment:
            return Environment(
                block=block,
                server=server,
                view="",
                counters=self.counters,
                clock=self.clock,
                ask=lambda query: self._ask((*listen[0], block.keys[0].transport), query),
                log=plugin_logger(name),
                index=self._index_for,
                kept=lambda key, make: self._keep(generation, key, make),
                data=lambda plugin, key: self._data.get((plugin, key)),
                on_data=lambda plugin, key, call: generation.on_data.setdefault((plugin, key), []).append(call),
                invalidate=lambda dependencies: self._invalidate(set(dependencies)),
                invalidate_all=self._invalidate_all,
                publish=self._publish,
                allowance=lambda: self.listeners.budget,
                poll_sockets=apart(self.poll_sockets),
                first=self.slot == 0 or (self._encrypted and block.others not in elsewhere),
                peers=peers,
                local_addresses=() if any(host for host, _ in listen) else order.local_addresses,
                listen_addresses=listen,
            )

        generation.chains = build(plans, hosts, plugins.load, environment, self._hooks)
        for listener in generation.chains.listeners.values():
            if listener.security or listener.transport in TLS_REQUIRED:
                self.listeners.certificates.check(listener.security)
        return generation

    def _ask(self, where: ListenerKey, query: Query) -> Answer:
        listener = self._live.chains.listeners.get(where)
        return listener.ask(query) if listener is not None else rcode_only(Rcode.SERVFAIL, "not serving yet")

    def _index_for(self, watch: WatchOptions) -> Index:
        return self._indexes[self._views[encode_watch(watch)]]

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
        self._storing = built.chains.having("invalidate")
        log.setLevel(logging.DEBUG if built.debug else logging.INFO)
        for source in [number for number in self._indexes if number not in self._views.values()]:
            del self._indexes[source]
        self._replace_listeners(old.chains, built.chains)
        old.chains.stop()
        self._release(built.kept)
        built.chains.start()
        self._place()
        if self.slot == 0 or self._encrypted:
            for zones, reason in built.chains.slow_blocks:
                log.info(LogLine("forwarded queries take no fast path", zones=zones, reason=reason))
        if self._share < 1:
            await self._allow(self._share)  # new chains may have new caches, which start with their usual size
        self._configured = True
        self._show_state()

    def _replace_listeners(self, old: Chains, new: Chains) -> None:
        """Replaces the listeners. Keeps the stored replies that the new plugin chains would give too."""
        kept = kept_routes(old, new)
        self.listeners.swap(new.listeners, kept)
        if old.listeners.keys() != new.listeners.keys() or not all(
            where in kept and kept[where].all_stay for where in new.listeners
        ):
            for table in self.listeners.tables:
                table.invalidate((CONFIGURATION,))
        if self.slot == 0 and old.listeners:
            count = sum(len(listener.routes) for listener in old.listeners.values())
            stay = sum(len(one.by_id) for one in kept.values())
            log.info(LogLine("a reload keeps stored replies", zones=stay, of_zones=count))

    def _release(self, kept: set[tuple[Any, ...]]) -> None:
        """Stops and drops the kept objects of earlier Corefiles, except those whose keys are in `kept`."""
        for key in [key for key in self._kept if key not in kept]:
            self._hooks.call(str(key[0]), None, getattr(self._kept.pop(key), "stop", _nothing))

    def _take_data(self, data: Data) -> None:
        self.poll_sockets()  # to receive and decode a zone of 100,000 records took milliseconds
        key = (data.plugin, data.key)
        if plugins.load(data.plugin).PLUGIN.is_certificate(data.key):
            self.listeners.certificates.take(data.key, data.payload)
            return
        self._data[key] = data.payload
        for generation in (self._live, *self._built.values()):
            for call in generation.on_data.get(key, ()):
                self._hooks.call(data.plugin, None, call, data.payload)

    def _publish(self, plugin: str, key: str, payload: bytes) -> None:
        data = Data(plugin, key, payload)
        self._take_data(data)
        self._tell(data)

    # -- sockets

    async def sockets(self, add: list[Any], remove: list[int]) -> None:
        """Adds and removes sockets that the supervisor has sent."""
        self.listeners.sockets(add, remove)
        self._place()
        self._show_state()

    async def read(self, slots: frozenset[int]) -> None:
        """Reads only the sockets of the workers with the numbers `slots`, from this call on.

        Before the first call after a start, makes the replies to the queries that an earlier worker has sampled.
        """
        if self._configured and not self.listeners.has_read:
            keys = SampledKeys(self.listeners, self.clock())
            await self.in_steps(keys.make())
            if keys.made:
                log.debug(LogLine("replies to sampled queries were made before the first query", replies=keys.made))
        self.listeners.read(slots)
        self._place()
        self._show_state()

    def _place(self) -> None:
        """Tells the accelerator which sockets this worker reads."""
        if self.accelerator is not None:
            self.accelerator.place()

    def _show_state(self) -> None:
        if not self._configured or self._draining:
            return
        synced = all(index.synced for index in self._indexes.values()) and not self._live.chains.unready()
        if self.listeners.reading:
            self.counters.state(State.SERVING if synced else State.SERVING_UNSYNCED)
        else:
            self.counters.state(State.SYNCED if synced else State.UNSYNCED)

    # -- once a second

    def heartbeat(self) -> None:
        """Writes the time to shared memory, so that the supervisor sees that this worker runs."""
        self.counters.heartbeat(self.clock())

    async def update(self) -> None:
        """Updates the heartbeat, the metrics and the state of the worker. Called once a second."""
        self.heartbeat()
        self._live.chains.tick()
        accelerated = () if self.accelerator is None else self.accelerator.steps()
        async with self._updating:
            await self.in_steps(chain(accelerated, self._flush_steps(), self.listeners.purge()))
        self._show_state()
        self._dropped_lines.flush()
        if self.counters.overflowed > self._overflowed:
            self._overflowed = self.counters.overflowed
            log.warning(LogLine("no room for series of metrics: they are not counted", series=self._overflowed))

    def flush(self) -> None:
        """Updates the metrics of this worker without pauses for other work."""
        for _ in self._flush_steps():
            pass

    def _flush_steps(self) -> Iterator[None]:
        self.listeners.divide()
        if self.listeners.sampler is not None:
            self.listeners.sampler.tick()
        for responder in self.listeners.responders:
            yield from flush(responder)
        for server, address, slot, drops in self.listeners.dropped_packets():
            if slot == self.slot:  # sockets of another worker, which is down: it reports their drops when it runs again
                self.counters.set(self.counters.cell(SOCKET_DROPS, server, address, str(slot)), drops)

    # -- the end

    def announce_end(self) -> None:
        """Begins lame duck: asks clients that send the EDNS option TCP keepalive to close their connections."""
        self._shutdown.announce()

    def close_present(self) -> None:
        """Closes each connection that was open when lame duck began, after its next reply."""
        self._shutdown.close_present()

    async def drain(self) -> None:
        """Stops the worker.

        Answers the packets that have arrived, waits for queries in progress, and closes connections. During a hand-over
        to a successor, call `end_hand_over` instead.
        """
        self._show_draining()
        await self._end_accelerator()
        await self._shutdown.drain()
        await self._end()

    async def hand_over(self, sock: socket.socket) -> None:
        """Stops this worker, and hands over to its successor, the worker at the other end of `sock`.

        The successor gets the state of plugins, and all connections except TLS connections. This worker answers the
        queries that are in progress.
        """
        self._show_draining()
        await self._end_accelerator()
        await self._shutdown.finish_servers()
        self.listeners.read(frozenset())
        await self._shutdown.hand_over(sock, await pack(self._kept, self.clock()))
        await self._end()

    def note_keys(self) -> None:
        """Finds out from now on which stored replies are used, to pass their keys to the successor."""
        for table in self.listeners.tables:
            note_used_keys(table)

    async def give_keys(self, sock: socket.socket) -> None:
        """Passes the keys of stored replies to the successor at the other end of `sock`, which does not read sockets
        yet.
        """
        keys = await pack({_ANSWER_KEYS: AnswerKeys(self.listeners)}, self.clock())
        await give_file(sock, keys)

    async def take_keys(self, sock: socket.socket) -> None:
        """Makes the replies to the keys that the worker at the other end of `sock` passes on.

        Returns after KEYS_TIMEOUT seconds at the latest.
        """
        keys = AnswerKeys(self.listeners)

        async def make(fd: int) -> None:
            await unpack(fd, {_ANSWER_KEYS: keys}, self.clock(), self.poll_sockets)

        began = self.clock()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KEYS_TIMEOUT):
                await take(sock, self.listeners.adopt, make)
        keys.stop()
        seconds = self.clock() - began
        log.debug(LogLine("replies were made before the first query", replies=keys.made, seconds=seconds))

    def end_hand_over(self) -> None:
        """Ends the hand-over of connections to the successor, because the server stops. The worker then drains."""
        self._shutdown.stop()

    def _show_draining(self) -> None:
        self._draining = True
        self.counters.state(State.DRAINING)

    async def _end_accelerator(self) -> None:
        """Stops the replies of the kernel. Packets that arrive afterwards reach the sockets."""
        if self.accelerator is not None:
            async with self._updating:
                await self.accelerator.end()

    async def take_over(self, sock: socket.socket) -> None:
        """Takes over state and connections from the worker at the other end of `sock`, which this worker replaces."""

        async def import_state(fd: int) -> None:
            count = await unpack(fd, self._kept, self.clock(), self.poll_sockets)
            log.debug(LogLine("read the state that plugins kept in the worker before this one", portions=count))

        self.listeners.hold_datagrams(hold=True)  # the other worker may still read those of its QUIC connections
        try:
            await take(sock, self.listeners.adopt, import_state)
        finally:
            self.listeners.hold_datagrams(hold=False)

    async def _end(self) -> None:
        self._live.chains.stop()
        for kept in self._kept.values():
            if hasattr(kept, "finish"):
                try:
                    await kept.finish()
                except Exception as error:  # noqa: BLE001 - a plugin's object
                    self._hooks.failed(error, "the end of a plugin's object")
        async with self._updating:
            self.flush()
