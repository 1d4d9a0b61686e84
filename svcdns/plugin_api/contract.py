"""The plugin contract: the base class of all plugins, and how a handler hands a query on.

A plugin module has `parse(block) -> Options` (frozen, no I/O) and `PLUGIN`, a subclass of `Plugin`. A handler returns a
reply or what `following` returned; it never touches a client's socket. A reply may come later: `then` changes one that
is there and one to come.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar, Final, Protocol

from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.closest_encloser import Encloser
from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.errors import ContractError
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.settings import NO_SETTINGS, Settings
from svcdns.plugin_api.zone_transfer import ZoneOffer

Following = Callable[[Query], Answer]
"""The rest of the chain."""


class Plugin:
    """Base class of plugins. The core makes one instance for each server block that has the directive.

    All methods are optional hooks; each does nothing, or says no, unless a plugin overrides it. Public methods and
    attributes that are not hooks are for other plugins of the block (`environment.peers`); the plugin lists their names
    in `offers`. Any other public name is an error when the chain is built, so that a misspelt hook cannot go unnoticed.
    """

    name: ClassVar[str] = ""
    """The directive."""
    before: ClassVar[str] = ""
    """For plugins from outside: the directive that this plugin comes immediately before in every chain."""
    configures_only: ClassVar[bool] = False
    """True if the directive takes no part in the chain; then only `settings` is called, and no instance is made."""
    holds_certificates: ClassVar[bool] = False
    """True if the plugin's data are the certificates of `tls://` listeners (`Settings.certificate`)."""
    offers: ClassVar[tuple[str, ...]] = ()
    """Public names that are no hooks: for other plugins of the block."""
    states_reuse: ClassVar[bool] = False
    """True if `handle` itself sets the `scope` of every reply that depends on the client, the clock or chance.

    The core then adds nothing. Leave it False unless a measurement calls for it.
    """
    reads_nothing: ClassVar[bool] = False
    """True if `handle` reads nothing that the core notes, sends no self-queries, and changes replies by copies alone.

    Then the core notes nothing. For built plugins that are in most chains.
    """
    client_class_dependencies: ClassVar[frozenset[str]] = frozenset()
    """Kinds of dependencies, such as `pod`, whose change may put a client into another class."""

    zones: Sequence[bytes] = ()
    """For `closest_encloser`: the zones it knows, as lowered wire names."""
    echoed_options: frozenset[int] = frozenset()
    """Codes of EDNS options that clients get back as they sent them."""

    def __init__(self, options: Any, environment: Environment) -> None:
        """`options` is what `parse` returned. Makes no I/O and starts nothing: the chain may never serve."""
        self.options = options
        self.environment = environment

    # -- the directive

    @classmethod
    def settings(cls, options: Any) -> Settings:  # noqa: ARG003 - a hook
        """What the directive configures outside of the chain."""
        return NO_SETTINGS

    # -- queries

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers the query, or returns what `following(query)` returns, changed or not."""
        return following(query)

    def client_class(self, address: str) -> str:  # noqa: ARG002 - a hook
        """The class of a client address (text). Clients of one class may get the same replies; the address alone
        decides.
        """
        return ""

    def observe(self, query: Query, reply: Reply, size: int, seconds: float) -> None:
        """Sees every query of the block once it is answered: `size` octets of reply, `seconds` since the packet was
        read.
        """

    # -- life of the chain

    def start(self) -> None:
        """The chain begins to serve."""

    def stop(self) -> None:
        """The chain has been replaced, or the process stops."""

    def tick(self) -> None:
        """Called about once a second while the chain serves."""

    def ready(self) -> bool:
        """Whether queries can be answered; `/ready` shows it."""
        return True

    def shrink(self, share: float) -> Iterator[None]:  # noqa: ARG002 - a hook
        """Gives up stored data down to this part of its usual size, a little at each step; 1 allows all again."""
        return iter(())

    def invalidate(self, dependencies: set[Dependency]) -> None:
        """These dependencies have changed: drops stored replies that depend on them."""

    # -- what makes replies cheap; see docs/architecture.md

    def name_independent(self, zone: bytes) -> bool:  # noqa: ARG002 - a hook
        """Whether the plugin treats negative answers for all names of the zone (lowered wire name) alike."""
        return False

    def closest_encloser(self, key: bytes, rtype: int) -> Encloser | None:  # noqa: ARG002 - a hook
        """For a name (lowered) of `zones` that does not exist: its closest encloser; None where other names may get
        another answer.
        """
        return None

    def join_fast_path(self, fast_path: FastPath) -> bool:  # noqa: ARG002 - a hook
        """Says in `fast_path` what the plugin does with forwarded queries; False if the block can have no fast path."""
        return False

    # -- zones

    def transfer(self, zone: bytes, serial: int) -> ZoneOffer | None:  # noqa: ARG002 - a hook
        """A whole zone for the plugin *transfer*; see `svcdns.plugin_api.zone_transfer`."""
        return None


HOOKS: Final = frozenset(name for name in dir(Plugin) if not name.startswith("_"))
CONTRACT: Final = HOOKS | {"options", "environment"}
"""The public names that a plugin may have without listing them in `offers`."""


def overrides(plugin: Plugin | type[Plugin], hook: str) -> bool:
    """Whether the plugin has the hook, of its own."""
    kind = plugin if isinstance(plugin, type) else type(plugin)
    return getattr(kind, hook) is not getattr(Plugin, hook)


def check_plugin(plugin: Any) -> None:
    """Checks a class against the contract. Raises ContractError, which names the plugin and what is wrong."""
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
    """Refuses public names that are no hooks and that `offers` does not list. Raises ContractError."""
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
    """What `plugins/<name>.py` offers."""

    PLUGIN: type[Plugin]

    def parse(self, block: Any) -> Any:
        """Frozen options from the block's directives of this name. Raises CorefileError. No I/O."""
        ...


def then(answer: Answer, change: Callable[[Reply], Reply]) -> Answer:
    """`change` applied to the reply, now if it is there, else when it comes. Takes ownership of `answer`; the caller
    must not use it.
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
    """Runs a generator that yields each answer it needs and is sent the reply; its return value, now if nothing had to
    be waited for.
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
