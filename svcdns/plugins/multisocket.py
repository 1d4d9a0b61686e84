"""`multisocket`: sets the number of workers. Each worker has its own sockets. The plugin handles no queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.settings import Settings
from svcdns.process.capacity import capacity, processors

MOST: Final = 1024
"""The largest number that the directive accepts."""


@dataclass(frozen=True, slots=True)
class Options:
    """The number of workers, at least 1, and a log line if the Corefile states more than can be run."""

    workers: int
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's last `multisocket` directive. Raises CorefileError."""
    options = Options(1)
    most, reason = capacity()
    for directive in block.directives:
        words = arguments.arguments(directive, 0, 1)
        arguments.no_body(directive)
        wanted = arguments.integer(words[0], 1, MOST) if words else processors()
        options = Options(min(wanted, most))
        if wanted > most:
            position = words[0].position if words else directive.position
            text = f"multisocket: {wanted} workers are configured, {most} are run: {reason}"
            options = Options(most, (arguments.warning(position, text),))
    return options


class Multisocket(Plugin):
    """Sets the number of workers. Handles no queries."""

    name = "multisocket"
    configures_only = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with the number of workers."""
        return Settings(workers=options.workers, warnings=options.warnings)


PLUGIN: Final = Multisocket
