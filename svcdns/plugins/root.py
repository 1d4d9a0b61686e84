"""`root`: the folder that relative paths of other plugins start from. Configures only; the plan reads it first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.plugin_api.environment import Block


@dataclass(frozen=True, slots=True)
class Options:
    """The folder, as it was written."""

    path: str


def parse(block: Block) -> Options:
    """The options of the block's last `root` directive. Raises CorefileError."""
    for directive in block.directives:
        arguments.no_body(directive)
        path = arguments.argument(directive).text
    return Options(path)


PLUGIN: Final = None
