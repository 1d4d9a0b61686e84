"""Checks a parsed Corefile, and makes the options of every plugin in every block from it. Does no I/O.

The control process makes this plan to find errors, listeners and watches. Each worker makes it to build its chains. The
order of the plugins is that of `svcdns.plugins.ORDER`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from svcdns.corefile.blocks import Corefile, Directive, ServerKey
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.transports import ENCRYPTED
from svcdns.errors import SvcdnsError
from svcdns.plugin_api.contract import PluginModule
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.errors import HookError
from svcdns.plugin_api.networks import NetworkTextError
from svcdns.plugin_api.settings import Settings
from svcdns.wire.errors import NameTextError

T = TypeVar("T")

Load = Callable[[str], PluginModule]
"""Returns the module of the plugin with the given directive."""


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """A server block, with the options and the settings of its directives in chain order.

    `settings` has the settings that affect more than the plugin chain.
    """

    keys: tuple[ServerKey, ...]
    directives: tuple[Directive, ...]
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Settings] = field(default_factory=dict)

    def block(self, name: str) -> Block:
        """Returns the block in the form that the plugin `name` gets."""
        mine = tuple(d for d in self.directives if d.name.text == name)
        return Block(directives=mine, keys=self.keys, zones=self.zones, others=self.directives, root=self.root)

    @property
    def root(self) -> str:
        """Returns the folder that relative paths start from, or an empty text for the current folder.

        The folder is known only after the directive *root* has been parsed.
        """
        return next((settings.root for settings in self.settings.values() if settings.root is not None), "")

    @property
    def has_view(self) -> bool:
        """True if only some queries reach the block (plugin *view*). Then another block may have the same keys."""
        return any(settings.view is not None for settings in self.settings.values())

    @property
    def zones(self) -> tuple[str, ...]:
        """Returns the block's zones as text, without duplicates, in the order of the Corefile."""
        return tuple(dict.fromkeys(key.zone for key in self.keys))


def plan(corefile: Corefile, order: Sequence[str], load: Load) -> tuple[BlockPlan, ...]:
    """Returns the plans of all blocks, in the order of the Corefile.

    Plugins parse their directives in chain order. Raises CorefileError or HookError for the first error.
    """
    drafts = tuple(BlockPlan(block.keys, block.directives) for block in corefile.blocks)
    for name in order:
        for draft in drafts:
            block = draft.block(name)
            if block.directives:
                module = load(name)
                draft.options[name] = options = call_hook(name, "parse", block, partial(module.parse, block))
                draft.settings[name] = call_hook(name, "settings", block, partial(module.PLUGIN.settings, options))
        share_options(name, drafts, load)
    return drafts


def share_options(name: str, drafts: Sequence[BlockPlan], load: Load) -> None:
    """Calls the plugin's hook `share`, which may change the options of each block, and add the plugin to blocks.

    Raises CorefileError.
    """
    having = next((draft for draft in drafts if name in draft.options), None)
    if having is None or not hasattr(module := load(name), "share"):
        return
    before = [draft.options.get(name) for draft in drafts]
    after = call_hook(name, "share", having.block(name), partial(module.share, before))
    for draft, options in zip(drafts, after, strict=True):
        if options is not None and options is not draft.options.get(name):
            draft.options[name] = options
            make = partial(module.PLUGIN.settings, options)
            draft.settings[name] = call_hook(name, "settings", having.block(name), make)


def own_blocks(
    plans: Sequence[BlockPlan], hosts: Sequence[Sequence[str]], *, encrypted: bool
) -> tuple[tuple[BlockPlan, ...], tuple[tuple[str, ...], ...]]:
    """Returns the blocks, with their keys, that one kind of worker serves, and the addresses of each block.

    With `encrypted`, these are the keys with an encrypted transport, and without it, all other keys. `hosts` has the
    addresses of each block in `plans`.
    """
    found = [
        (replace(block, keys=keys), tuple(addresses))
        for block, addresses in zip(plans, hosts, strict=True)
        if (keys := tuple(key for key in block.keys if (key.transport in ENCRYPTED) == encrypted))
    ]
    return tuple(block for block, _ in found), tuple(addresses for _, addresses in found)


def call_hook(name: str, hook: str, block: Block, call: Callable[[], T]) -> T:
    """Calls one hook of a plugin and returns its result.

    NameTextError and NetworkTextError become a CorefileError with the position of the plugin's first directive. An
    exception that is not a SvcdnsError becomes a HookError.
    """
    try:
        return call()
    except (NameTextError, NetworkTextError) as error:
        raise CorefileError(block.directives[0].position, f"plugin/{name}: {error}") from error
    except SvcdnsError:
        raise
    except Exception as error:
        raise HookError(block.directives[0].position, name, hook, error) from error
