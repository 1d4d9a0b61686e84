"""`multisocket`: the number of workers, each of which has its own sockets. The plugin handles no queries."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.settings import Settings
from svcdns.process.shared_memory import SLOTS

MOST: Final = 1024
"""The largest number that the directive accepts."""


@dataclass(frozen=True, slots=True)
class Options:
    """The number of workers, from 1 to the number that shared memory has room for."""

    workers: int


def parse(block: Block) -> Options:
    """Returns the options of the block's last `multisocket` directive. Raises CorefileError."""
    workers = 1
    for directive in block.directives:
        words = arguments.arguments(directive, 0, 1)
        arguments.no_body(directive)
        workers = os.cpu_count() or 1
        if words:
            workers = arguments.integer(words[0], 1, MOST)
    return Options(min(workers, SLOTS))


class Multisocket(Plugin):
    """Sets the number of workers. Handles no queries."""

    name = "multisocket"
    configures_only = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns the settings: the number of workers."""
        return Settings(workers=options.workers)


PLUGIN: Final = Multisocket
