"""What a plugin gets besides its options: its server block, and the worker that it runs in.

A test passes in its own, and runs any plugin, or a whole worker, inside one process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Generic, TypeVar

from svcdns.cluster.changes import Dependency
from svcdns.corefile.blocks import Directive, ServerKey
from svcdns.eventloop.clock import Clock
from svcdns.plugin_api.query import Ask
from svcdns.plugin_api.reply import CacheScope
from svcdns.plugin_api.reuse import running
from svcdns.telemetry.counters import Counters

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Block:
    """A server block as a plugin's `parse` sees it.

    `directives` are the block's directives of the plugin's name, in file order; `others` are all directives of the
    block. `zones` are the block's zones as text (`cluster.local.`), `root` the folder that relative paths start from
    (plugin *root*).
    """

    directives: tuple[Directive, ...]
    keys: tuple[ServerKey, ...]
    zones: tuple[str, ...]
    others: tuple[Directive, ...] = ()
    root: str = ""


@dataclass(frozen=True, slots=True)
class Environment:
    """The worker's side of a plugin.

    `server` is the server label of metrics (`dns://:53`), `view` the name of the view. `index(options)` returns the
    cluster index for watch options.

    `data(plugin, key)` returns the data that control read for this plugin, None if it has not come yet; `on_data`
    registers a function that is called with new data. `publish(plugin, key, payload)` sends data to all workers, to
    this one first. `kept(key, make)` returns an object that outlives a reload, such as a cache: the same key gives the
    same object.

    `invalidate(dependencies)` drops the compiled replies that depend on one of them, `invalidate_all()` all compiled
    replies. `peers(name)` returns the plugins of that name in the same block, all of them in chain order for ""; it
    works from `start` on. `poll_sockets()` reads the sockets; long work calls it between two pieces of at most 0.2 ms.

    `local_addresses` are the machine's addresses as text without loopback, empty if the block has *bind*. `first` is
    True in exactly one worker, for work that is done once, such as NOTIFY. `allowance()` returns how many octets the
    caches of this worker may use. `random` gives random numbers.
    """

    block: Block
    server: str
    view: str
    counters: Counters
    clock: Clock
    ask: Ask
    log: logging.Logger
    index: Callable[[Any], Any]
    kept: Callable[[tuple[Any, ...], Callable[[], Any]], Any]
    data: Callable[[str, str], bytes | None] = lambda _plugin, _key: None
    on_data: Callable[[str, str, Callable[[bytes], None]], None] = lambda _plugin, _key, _call: None
    invalidate: Callable[[tuple[tuple[str, ...], ...]], None] = lambda _dependencies: None
    invalidate_all: Callable[[], None] = lambda: None
    publish: Callable[[str, str, bytes], None] = lambda _plugin, _key, _payload: None
    allowance: Callable[[], int] = lambda: 128 << 20
    poll_sockets: Callable[[], object] = lambda: None
    local_addresses: tuple[str, ...] = ()
    first: bool = True
    peers: Callable[[str], tuple[Any, ...]] = lambda _name: ()
    listen_addresses: tuple[tuple[str, int], ...] = ()
    random: Random = field(default_factory=Random)

    def depends_on(self, *dependencies: Dependency) -> None:
        """Called while the plugin handles a query: its reply, or the one that it lets through, is dropped when one of
        these changes.
        """
        noted = running.current.begin().dependencies
        noted += [one for one in dependencies if one not in noted]

    def content(self, plugin: str, key: str, read: Callable[[bytes], T], default: T) -> Content[T]:
        """The data that control read for this plugin under `key`, decoded by `read`; `default` until it comes.

        A reply for which the plugin reads its `value` is dropped when the data changes.
        """
        return Content(self, plugin, key, read, default)

    def recording(self) -> Environment:
        """A copy whose clock and random numbers note that a reply depends on them."""
        now = self.clock

        def clock() -> float:
            running.current.read(CacheScope.CLIENT)
            return now()

        return replace(self, clock=clock, random=_RecordingRandom())


class _RecordingRandom(Random):
    """Random numbers. A reply for which the plugin drew one is stored for nobody."""

    def random(self) -> float:
        running.current.read(CacheScope.CLIENT)
        return super().random()

    def getrandbits(self, k: int, /) -> int:
        running.current.read(CacheScope.CLIENT)
        return super().getrandbits(k)


class Content(Generic[T]):
    """Data that control reads for a plugin, such as a file, in the form that the plugin uses."""

    __slots__ = ("_dependency", "_environment", "_read", "_value")

    def __init__(self, environment: Environment, plugin: str, key: str, read: Callable[[bytes], T], default: T) -> None:
        """See `Environment.content`."""
        self._environment, self._read, self._value = environment, read, default
        self._dependency: Dependency = (plugin, key)
        payload = environment.data(plugin, key)
        if payload is not None:
            self._value = read(payload)
        environment.on_data(plugin, key, self._changed)

    @property
    def value(self) -> T:
        """The data as it is now."""
        self._environment.depends_on(self._dependency)
        return self._value

    def _changed(self, payload: bytes) -> None:
        self._value = self._read(payload)
        self._environment.invalidate((self._dependency,))
