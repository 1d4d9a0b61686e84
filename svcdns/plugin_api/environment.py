"""The environment of a plugin: its server block, and access to the worker that it runs in.

A test can replace the functions and values of the environment, and so run a plugin in one process.
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
    """A server block in the form that a plugin's `parse` gets.

    `directives` has the directives with the plugin's name, in the order of the Corefile. `others` has all directives of
    the block. `zones` has the block's zones as text (`cluster.local.`). `root` is the folder that relative paths start
    from (plugin *root*).
    """

    directives: tuple[Directive, ...]
    keys: tuple[ServerKey, ...]
    zones: tuple[str, ...]
    others: tuple[Directive, ...] = ()
    root: str = ""


@dataclass(frozen=True, slots=True)
class Environment:
    """The worker, in the form that a plugin gets.

    Values:

    - `server` is the server label of metrics (`dns://:53`), and `view` the name of the view.
    - `local_addresses` are the machine's addresses as text, without loopback. If the block has *bind*, there are none.
    - `first` is True in exactly one worker, for work that only one worker should do, such as NOTIFY.
    - `random` makes random numbers.

    Functions:

    - `index(options)` returns the cluster index for watch options.
    - `data(plugin, key)` returns the data that the control process has read for a plugin, or None if none has arrived.
    - `on_data(plugin, key, call)` registers a function that is called with new data.
    - `publish(plugin, key, payload)` sends data to all workers, to this one first.
    - `kept(key, make)` returns an object that outlives a reload, such as a cache. The first call with a key makes the
      object. When no Corefile uses the object any more, its method `stop` is called, if it has one. Before the worker
      ends, its coroutine method `finish` is awaited, if it has one.
    - `invalidate(dependencies)` drops the stored replies with one of these dependencies. `invalidate_all()` drops all
      stored replies.
    - `peers(name)` returns the plugins of this name in the same block, or for "" all plugins of the block in chain
      order. Do not call it before `start`.
    - `poll_sockets()` reads the sockets if a time slice has passed. Call it after each 0.2 ms of long work.
    - `allowance()` returns how many octets the caches of this worker may use.
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
    own_zones: Callable[[], tuple[bytes, ...]] = tuple

    def depends_on(self, *dependencies: Dependency) -> None:
        """Adds dependencies to the reply to the query that the plugin handles now.

        The stored reply is dropped when one of these dependencies changes. Call it only while the plugin handles a
        query.
        """
        noted = running.current.begin().dependencies
        noted += [one for one in dependencies if one not in noted]

    def content(self, plugin: str, key: str, read: Callable[[bytes], T], default: T) -> Content[T]:
        """Returns an object for the data that the control process reads for `plugin` under `key`.

        `value` of the result is the data decoded by `read`, or `default` until data arrive. If a plugin reads `value`
        for a reply, the stored reply is dropped when the data change.
        """
        return Content(self, plugin, key, read, default)

    def recording(self) -> Environment:
        """Returns a copy whose clock and random numbers record their use.

        A reply for which a plugin used one of them is not reused for any other query.
        """
        now = self.clock

        def clock() -> float:
            running.current.read(CacheScope.CLIENT)
            return now()

        return replace(self, clock=clock, random=_RecordingRandom())


class _RecordingRandom(Random):
    """A random number generator that records its use. A reply for which a plugin used it is never stored."""

    def random(self) -> float:
        running.current.read(CacheScope.CLIENT)
        return super().random()

    def getrandbits(self, k: int, /) -> int:
        running.current.read(CacheScope.CLIENT)
        return super().getrandbits(k)


class Content(Generic[T]):
    """Data that the control process reads for a plugin, such as a file, in the form that the plugin uses."""

    __slots__ = ("_dependency", "_environment", "_read", "_value")

    def __init__(self, environment: Environment, plugin: str, key: str, read: Callable[[bytes], T], default: T) -> None:
        """The arguments are those of `Environment.content`."""
        self._environment, self._read, self._value = environment, read, default
        self._dependency: Dependency = (plugin, key)
        payload = environment.data(plugin, key)
        if payload is not None:
            self._value = read(payload)
        environment.on_data(plugin, key, self._changed)

    @property
    def value(self) -> T:
        """Returns the present data. A reply for which a plugin has read them is dropped when the data change."""
        self._environment.depends_on(self._dependency)
        return self._value

    def _changed(self, payload: bytes) -> None:
        self._value = self._read(payload)
        self._environment.invalidate((self._dependency,))
