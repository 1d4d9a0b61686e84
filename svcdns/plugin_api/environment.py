"""What a plugin is given besides its options: the block it stands in, and the worker it runs in.

Everything here is passed in, so that a test can run any plugin, or a whole worker, inside one process.
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

    `directives` are the block's directives with the plugin's own name, in file order; `others` is every directive of the
    block. `zones` are the block's zones as text (`cluster.local.`), `root` the base of relative paths (plugin `root`).
    """

    directives: tuple[Directive, ...]
    keys: tuple[ServerKey, ...]
    zones: tuple[str, ...]
    others: tuple[Directive, ...] = ()
    root: str = ""


@dataclass(frozen=True, slots=True)
class Environment:
    """The worker's side of a plugin.

    `server` is the server label of metrics (`dns://:53`), `view` the view's name. `index(options)` is the cluster index for
    watch options. `data(plugin, key)` is what control has read from a file for this plugin, None where it has not come yet, and
    `on_data` calls back when it changes. `kept(key, make)` is an object that outlives a change of the chain (a cache, an
    upstream's state): the same key gives the same object. `publish(plugin, key, payload)` gives
    all workers, this one first, what this one has found out, as data. `invalidate(dependencies)` drops the compiled replies
    resting on those
    owners, `invalidate_all()` all of them. `peers(name)` are the handlers of that name in the same block, all of them in chain
    order for "", there from `start()` on. `poll_sockets()` is to be called between two pieces of long work: it reads the
    sockets. `local_addresses` are this machine's addresses as text without loopback, empty where the block has `bind`.
    `first` is true in one worker of all, for what has to be done once: telling others that a zone is new.
    `allowance()` is how many octets all that plugins of this worker keep of others' answers may take. `random` gives random numbers.
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
    invalidate: Callable[[tuple[tuple[str, ...], ...]], None] = lambda _owners: None
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
        """The reply that the plugin is about to return, or to let through, depends on these; `invalidate` says that they have changed."""
        noted = running.current.begin().dependencies
        noted += [one for one in dependencies if one not in noted]

    def content(self, plugin: str, key: str, read: Callable[[bytes], T], default: T) -> Content[T]:
        """What control has read for this plugin under `key`, as `read` makes it of the octets; `default` until it comes.

        A reply for which the plugin looks at it depends on it, and is dropped when it changes.
        """
        return Content(self, plugin, key, read, default)

    def noting(self) -> Environment:
        """The same, whose clock and random numbers note that a reply depends on them."""
        now = self.clock

        def clock() -> float:
            running.current.read(CacheScope.CLIENT)
            return now()

        return replace(self, clock=clock, random=_NotingRandom())


class _NotingRandom(Random):
    """Random numbers; a reply for which one was drawn is for one client alone."""

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
        """What it is now."""
        self._environment.depends_on(self._dependency)
        return self._value

    def _changed(self, payload: bytes) -> None:
        self._value = self._read(payload)
        self._environment.invalidate((self._dependency,))
