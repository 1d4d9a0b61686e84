"""The plugin contract: the base class of all plugins, and helpers for answers.

A plugin module has `PLUGIN`, a subclass of `Plugin`, and `parse(block)`, which returns frozen options and does no I/O.
A handler returns its own reply, or the answer of the rest of the plugin chain (`following`). An answer is a reply, or
an awaitable for a reply.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Generator, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.closest_encloser import Encloser
from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.errors import ContractError
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, PacketObserver, Query
from svcdns.plugin_api.rate_limit import RateLimiter
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.settings import NO_SETTINGS, Settings
from svcdns.plugin_api.tracing import Sampler
from svcdns.plugin_api.visibility import Visibility
from svcdns.plugin_api.zone_transfer import ZoneOffer

if TYPE_CHECKING:
    from svcdns.plugin_api.stored import Selection, StoredReply
    from svcdns.plugin_api.tap import Tap

Following = Callable[[Query], Answer]
"""The rest of the chain, as a function from a query to an answer."""


class Plugin:
    """The base class of plugins. The core makes one instance for each server block that has the directive.

    All methods are optional hooks. A hook that a plugin does not override does nothing, or returns a neutral value.
    Other public names of a plugin must be in `offers`, and are for other plugins of the block (`environment.peers`).
    """

    name: ClassVar[str] = ""
    """The name of the directive."""
    before: ClassVar[str] = ""
    """For plugins in other packages: the directive that directly follows this plugin in every chain."""
    configures_only: ClassVar[bool] = False
    """True if the directive has no handler in the chain. Then the core only calls `settings`, and makes no instance."""
    has_span: ClassVar[bool] = False
    """True if the directive has a span in traces (plugin *trace*) without a handler in the chain, as in CoreDNS.
    """
    in_chain: ClassVar[bool] = True
    """False if no query passes through the plugin. The core still makes an instance, for example for metrics."""
    offers: ClassVar[tuple[str, ...]] = ()
    """The public names, other than hooks, that other plugins of the block may use."""
    states_reuse: ClassVar[bool] = False
    """True if `handle` itself sets the `scope` of every reply that depends on the client, the clock or random numbers.

    Then the core does not set the scope. Leave it False, unless a measurement shows that the plugin needs it.
    """
    reads_nothing: ClassVar[bool] = False
    """True if `handle` reads nothing that limits the reuse of a reply, and sends no queries to the server itself.

    `handle` must also change replies only by copies. Then the core records nothing while the plugin runs, which saves
    time. Meant for plugins of svcdns that are in most chains.
    """
    client_class_dependencies: ClassVar[frozenset[str]] = frozenset()
    """The kinds of dependencies, such as `pod`, whose change may move a client to another client class."""

    zones: Sequence[bytes] = ()
    """The zones that `closest_encloser` covers, as lower-case names in wire format."""
    own_zones: Sequence[bytes] = ()
    """The zones that the plugin answers from its own data, as lower-case names in wire format. No reverse zones.

    `Environment.own_zones` returns those of all plugins.
    """
    complete_zones: Sequence[bytes] = ()
    """The zones whose queries the plugin never passes to the rest of the chain, as lower-case names in wire format.

    Stored replies in these zones stay when a reload changes only later plugins of the chain (`answers_like`).
    """
    counted_zones: Collection[bytes] = ()
    """Zones inside the block's zones that have their own label `zone` in the metrics of queries, as lower-case names in
    wire format. They may change while the chain serves. Override it with a property.
    """
    metadata_names: tuple[str, ...] = ()
    """The first parts of labels for which the core calls `metadata`, in addition to the plugin's name."""
    echoed_options: frozenset[int] = frozenset()
    """The codes of EDNS options that replies copy from their queries."""

    def __init__(self, options: Any, environment: Environment) -> None:
        """`options` is the result of `parse`.

        Do no I/O here and start nothing: the plugin chain may be dropped before it serves.
        """
        self.options = options
        self.environment = environment

    # -- the directive

    @classmethod
    def settings(cls, options: Any) -> Settings:  # noqa: ARG003 - a hook
        """Returns what the directive configures for the block, its listeners or the whole server."""
        return NO_SETTINGS

    @classmethod
    def has_handler(cls, options: Any) -> bool:  # noqa: ARG003 - a hook
        """Returns True if the core makes an instance for the block. The default depends on `configures_only`."""
        return not cls.configures_only

    @classmethod
    def is_certificate(cls, key: str) -> bool:  # noqa: ARG003 - a hook
        """Returns True if the plugin's data under `key` are the certificate of a listener (`Settings.certificate`)."""
        return False

    # -- queries

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers the query, or returns the answer of `following(query)`, which may be changed before."""
        return following(query)

    def client_class(self, address: str) -> str:  # noqa: ARG002 - a hook
        """Returns the client class of `address` (text). Clients of one class may get the same replies.

        The class must depend only on the address, and on dependencies of the kinds in `client_class_dependencies`.
        """
        return ""

    def metadata(self, query: Query, label: str) -> str:  # noqa: ARG002 - a hook
        """Returns the metadata of a query under a label that begins with the plugin's name and a slash.

        Returns an empty text if there is none. The core calls it only if the block has the plugin *metadata*.
        """
        return ""

    def client_metadata(self, address: str, label: str) -> str:  # noqa: ARG002 - a hook
        """Returns the part of the metadata under `label` that depends on the address of the client (text).

        All clients with the same value get the same metadata for equal queries. The value must depend only on the
        address, and on dependencies of the kinds in `client_class_dependencies`. The default is the address itself.
        """
        return address

    def admits(self, query: Query) -> bool:  # noqa: ARG002 - a hook
        """Returns True if the block may answer the query; otherwise, another block of the same zone is tried.

        The core calls it only if the plugin has the setting `view`.
        """
        return True

    def observe(self, query: Query, reply: Reply, size: int, seconds: float) -> None:
        """Called for every query of the block after the reply was sent.

        `size` is the length of the reply in octets. `seconds` is the time since the packet was read.
        """

    def packet_observer(self) -> PacketObserver | None:
        """Returns a function that is called in place of `observe` for replies that are made without the plugin chain.

        Called once, when the plugin chain is built. If a plugin overrides `observe` and returns None here, all queries
        of the block go through the chain, unless the answer table has their reply.
        """
        return None

    def taps(self, zone: bytes, transport: str) -> Sequence[Tap]:  # noqa: ARG002 - a hook
        """Returns objects that get the packets of all queries and replies of a zone (wire format, lower case).

        Called once for each key of the block, when the plugin chain is built. `transport` is that of the key.
        """
        return ()

    def rate_limiter(self) -> RateLimiter | None:
        """Returns the object that limits the rate of the block's replies over UDP, or None.

        Called once, when the plugin chain is built. A block with a rate limiter has no fast path.
        """
        return None

    def sampler(self) -> Sampler | None:
        """Returns the object that chooses queries of the block to be traced, or None; for *trace*.

        Called once, when the plugin chain is built.
        """
        return None

    # -- life of the chain

    def start(self) -> None:
        """Called when the plugin chain begins to serve."""

    def stop(self) -> None:
        """Called when the plugin chain has been replaced, and when the process stops."""

    def tick(self) -> None:
        """Called about once a second while the plugin chain serves."""

    def ready(self) -> bool:
        """Returns True if the plugin can answer queries. The page `/ready` reports the plugins that cannot."""
        return True

    def shrink(self, share: float) -> Iterator[None]:  # noqa: ARG002 - a hook
        """Reduces stored data to `share` of their usual size, a little at each step of the iterator.

        Called when the container's memory fills up. When there is room again, called with a larger share, up to 1.
        """
        return iter(())

    def stored_replies(self, selection: Selection) -> Iterator[StoredReply | None]:  # noqa: ARG002 - a hook
        """Yields the stored replies that a tool has selected, and None after each fraction of a millisecond of work."""
        return iter(())

    def drop_replies(self, selection: Selection) -> Iterator[int]:  # noqa: ARG002 - a hook
        """Drops the stored replies that a tool has selected. Each step of the iterator yields how many were dropped."""
        return iter(())

    def invalidate(self, dependencies: set[Dependency]) -> None:
        """Drops stored replies that were made from one of the objects in `dependencies`."""

    # -- what makes replies cheap; see docs/architecture.md

    def answers_like(self, previous: Any) -> bool:  # noqa: ARG002 - a hook
        """Returns True if the stored replies of `previous` are the replies that this plugin would give.

        `previous` is the plugin in the same place of the chain before a reload of the Corefile, with equal options. A
        stored reply then stays until one of its dependencies changes. The default is False.
        """
        return False

    def name_independent(self, zone: bytes) -> bool:  # noqa: ARG002 - a hook
        """Returns True if the plugin treats the negative answers for all names of `zone` in the same way.

        `zone` is a wire name in lower case.
        """
        return False

    def closest_encloser(self, key: bytes, rtype: int) -> Encloser | None:  # noqa: ARG002 - a hook
        """Returns the closest encloser of a nonexistent name `key` (wire format, lower case) in the plugin's `zones`.

        Returns None if other nonexistent names below the encloser may get other answers.
        """
        return None

    def join_fast_path(self, fast_path: FastPath) -> bool:  # noqa: ARG002 - a hook
        """Sets in `fast_path` (forwarding without the plugin chain) what the plugin does with forwarded queries.

        Returns False if the block cannot have a fast path.
        """
        return False

    def join_cold_path(self, cold_path: ColdPath) -> bool:  # noqa: ARG002 - a hook
        """Sets in `cold_path` (replies without the plugin chain) what the plugin does with queries for cluster names.

        Returns False if such queries must go through the plugin chain.
        """
        return False

    def tsig_secret(self, key: bytes) -> bytes | None:  # noqa: ARG002 - a hook
        """Returns the secret of a TSIG key (wire name, lower case), or None if the plugin does not have the key."""
        return None

    # -- zones

    def notified(self, zone: bytes, address: str) -> bool:  # noqa: ARG002 - a hook
        """Called for a NOTIFY message about `zone` (wire format, lower case) from `address` (RFC 1996).

        Returns True if the plugin accepts it; then the sender gets a reply without an error.
        """
        return False

    def transfer(self, zone: bytes, serial: int) -> ZoneOffer | None:  # noqa: ARG002 - a hook
        """Returns a whole zone for the plugin *transfer*; see `svcdns.plugin_api.zone_transfer`."""
        return None

    def visible_transfer(self, zone: bytes, serial: int, visibility: Visibility) -> ZoneOffer | None:  # noqa: ARG002
        """Returns the part of a zone that a client may see, in the form of `transfer`.

        The default is the whole zone. Override it in a plugin that makes its zone from the cluster.
        """
        return self.transfer(zone, serial)


HOOKS: Final = frozenset(name for name in dir(Plugin) if not name.startswith("_"))
CONTRACT: Final = HOOKS | {"options", "environment"}
"""The public names that a plugin may have without adding them to `offers`."""


def overrides(plugin: Plugin | type[Plugin], hook: str) -> bool:
    """Returns True if the plugin overrides `hook`."""
    kind = plugin if isinstance(plugin, type) else type(plugin)
    return getattr(kind, hook) is not getattr(Plugin, hook)


def check_plugin(plugin: Any) -> None:
    """Checks a class against the plugin contract. Raises ContractError, which names the plugin and the mistake."""
    if not (isinstance(plugin, type) and issubclass(plugin, Plugin)):
        raise ContractError(f"{plugin!r} is no plugin: a subclass of svcdns.plugin_api.Plugin was expected")
    if not plugin.name:
        raise ContractError(f"the plugin class {plugin.__qualname__} has no name: the directive was expected in 'name'")
    own: dict[str, Any] = {}
    for kind in reversed(plugin.__mro__):
        if kind is not Plugin and kind is not object:
            own |= {name: value for name, value in vars(kind).items() if not name.startswith("_")}
    check_names(plugin, own)
    for name, value in own.items():
        if inspect.isfunction(value) and name in HOOKS and not _takes_as_many(value, getattr(Plugin, name)):
            expected = ", ".join(inspect.signature(getattr(Plugin, name)).parameters)
            raise ContractError(f"plugin/{plugin.name}: the hook '{name}' does not take ({expected})")


def check_names(plugin: Plugin | type[Plugin], found: Any) -> None:
    """Raises ContractError if a public name in `found` is neither in the contract nor in `plugin.offers`."""
    for name in found:
        if not name.startswith("_") and name not in CONTRACT and name not in plugin.offers:
            near = get_close_matches(name, HOOKS, 1, 0.7)
            hint = (
                f"; did you mean '{near[0]}'?"
                if near
                else ": begin the name with '_', or list it in 'offers' if other plugins use it"
            )
            raise ContractError(f"plugin/{plugin.name}: '{name}' is no hook of the plugin contract{hint}")


def _takes_as_many(function: Callable[..., Any], hook: Callable[..., Any]) -> bool:
    parameters = inspect.signature(function).parameters.values()
    given = len(inspect.signature(hook).parameters)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = sum(p.default is p.empty for p in positional)
    return needed <= given and (given <= len(positional) or any(p.kind is p.VAR_POSITIONAL for p in parameters))


class PluginModule(Protocol):
    """The interface of a plugin module, `plugins/<name>.py`."""

    PLUGIN: type[Plugin]

    def parse(self, block: Any) -> Any:
        """Returns frozen options, made from the plugin's directives in `block`. Raises CorefileError. Does no I/O."""
        ...


def contents(found: Any) -> dict[str, bytes]:
    """Checks the result of a plugin's `gather` or `refresh`, and returns it.

    The result has the octets of a file for each key (text). Raises TypeError if `found` has another form.
    """
    if not isinstance(found, Mapping):
        raise TypeError(f"it returned {type(found).__name__}; a dict with the bytes of each file was expected")
    for key, payload in found.items():
        if not isinstance(key, str) or not isinstance(payload, bytes):
            types = f"{type(key).__name__}: {type(payload).__name__}"
            raise TypeError(f"it returned a dict with {types}; str: bytes was expected")
    return dict(found)


def then(answer: Answer, change: Callable[[Reply], Reply]) -> Answer:
    """Applies `change` to the reply: now if `answer` is a reply, otherwise when the reply arrives.

    Returns the changed answer. The caller must not use `answer` again.
    """
    if isinstance(answer, Reply):
        return change(answer)
    if isinstance(answer, Deferred):
        answer.then(change)
        return answer
    return _then(answer, change)


async def _then(answer: Awaitable[Reply], change: Callable[[Reply], Reply]) -> Reply:
    return change(await answer)


def steps(work: Generator[Answer, Reply, Reply]) -> Answer:
    """Runs a generator that yields the answers it needs, gets their replies, and returns a reply.

    The result is a reply if all answers were replies, otherwise an awaitable.
    """
    try:
        answer = next(work)
        while isinstance(answer, Reply):
            answer = work.send(answer)
    except StopIteration as end:
        reply: Reply = end.value
        return reply
    return _steps(work, answer)


async def _steps(work: Generator[Answer, Reply, Reply], answer: Answer) -> Reply:
    try:
        while True:
            answer = work.send(answer if isinstance(answer, Reply) else await answer)
    except StopIteration as end:
        reply: Reply = end.value
        return reply
