"""From a parsed Corefile to the options of every plugin in every block: the whole check of a Corefile, without I/O.

Control plans to find errors, listeners and watches; each worker plans again, on the same blocks, to build its chains.
The order of plugins is given from outside (`svcdns.plugins.ORDER`), whatever the order in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from svcdns.corefile.blocks import Corefile, Directive, ServerKey
from svcdns.errors import SvcdnsError
from svcdns.plugin_api.contract import PluginModule
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.errors import HookError
from svcdns.plugin_api.settings import Settings

T = TypeVar("T")

Load = Callable[[str], PluginModule]
"""Gives the module of a directive that is built."""


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """A server block with the options of its directives, and what these configure outside of the chain; both in chain
    order.
    """

    keys: tuple[ServerKey, ...]
    directives: tuple[Directive, ...]
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Settings] = field(default_factory=dict)

    def block(self, name: str) -> Block:
        """The block as the plugin of that name sees it."""
        mine = tuple(d for d in self.directives if d.name.text == name)
        return Block(directives=mine, keys=self.keys, zones=self.zones, others=self.directives, root=self.root)

    @property
    def root(self) -> str:
        """The folder that relative paths start from, empty for the current one. Known once the directive that says so
        is parsed.
        """
        return next((settings.root for settings in self.settings.values() if settings.root is not None), "")

    @property
    def zones(self) -> tuple[str, ...]:
        """The block's zones as text, without repeats, in file order."""
        return tuple(dict.fromkeys(key.zone for key in self.keys))


def plan(corefile: Corefile, order: Sequence[str], load: Load) -> tuple[BlockPlan, ...]:
    """The plans of all blocks, in file order. Raises CorefileError at the first option that is wrong, and HookError.

    Plugins are parsed in chain order over all blocks, so that of several errors the same one is reported whatever the
    file's order.
    """
    drafts = tuple(BlockPlan(block.keys, block.directives) for block in corefile.blocks)
    for name in order:
        for draft in drafts:
            block = draft.block(name)
            if block.directives:
                module = load(name)
                draft.options[name] = options = _called(name, "parse", block, partial(module.parse, block))
                draft.settings[name] = _called(name, "settings", block, partial(module.PLUGIN.settings, options))
    return drafts


def _called(name: str, hook: str, block: Block, call: Callable[[], T]) -> T:
    """The result of one hook of a plugin. Raises HookError for an exception that no hook should raise."""
    try:
        return call()
    except SvcdnsError:
        raise
    except Exception as error:
        raise HookError(block.directives[0].position, name, hook, error) from error
