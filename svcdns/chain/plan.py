"""From a parsed Corefile to the options of every plugin in every block: the whole check of a Corefile, without I/O.

Control plans to find errors, listeners and watches; each worker plans again, on the same blocks, to build its chains. The order
of plugins is given from outside (`svcdns.plugins.ORDER`), whatever the order in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from svcdns.corefile.blocks import Corefile, Directive, ServerBlock, ServerKey
from svcdns.corefile.errors import CorefileError
from svcdns.errors import SvcdnsError
from svcdns.plugin_api.contract import PluginModule
from svcdns.plugin_api.environment import Block

Load = Callable[[str], PluginModule]
"""Gives the module of a directive that is built."""


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """A server block with its plugins' options, in chain order. `root` is the base of relative paths."""

    keys: tuple[ServerKey, ...]
    directives: tuple[Directive, ...]
    options: dict[str, Any]
    root: str

    def block(self, name: str) -> Block:
        """The block as the plugin of that name sees it."""
        return _block(name, self.keys, self.directives, self.root)

    @property
    def zones(self) -> tuple[str, ...]:
        """The block's zones as text, without repeats, in file order."""
        return _zones(self.keys)


def plan(corefile: Corefile, order: Sequence[str], load: Load) -> tuple[BlockPlan, ...]:
    """The plans of all blocks, in file order. Raises CorefileError at the first option that is wrong.

    Plugins are parsed in chain order over all blocks, so that of several errors the same one is reported whatever the file's order.
    """
    drafts: list[BlockPlan] = [BlockPlan(b.keys, b.directives, {}, _root(b)) for b in corefile.blocks]
    for name in order:
        for draft in drafts:
            block = draft.block(name)
            if block.directives:
                draft.options[name] = _parsed(name, load, block)
    return tuple(drafts)


def _parsed(name: str, load: Load, block: Block) -> Any:
    """The options of one plugin in one block. An exception that `parse` should not raise becomes a CorefileError of its directive."""
    try:
        return load(name).parse(block)
    except SvcdnsError:
        raise
    except Exception as error:
        text = f"plugin/{name}: parse failed: {type(error).__name__}: {error}"
        raise CorefileError(block.directives[0].position, text) from error


def _block(name: str, keys: tuple[ServerKey, ...], directives: tuple[Directive, ...], root: str) -> Block:
    mine = tuple(d for d in directives if d.name.text == name)
    return Block(directives=mine, keys=keys, zones=_zones(keys), others=directives, root=root)


def _zones(keys: tuple[ServerKey, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key.zone for key in keys))


def _root(block: ServerBlock) -> str:
    paths = [d.arguments[0].text for d in block.directives if d.name.text == "root" and d.arguments]
    return paths[-1] if paths else ""
