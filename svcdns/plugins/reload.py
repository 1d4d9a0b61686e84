"""`reload`: applies a changed Corefile without a restart.

The plugin handles no queries. The control process reads the Corefile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.settings import ReloadInterval, Settings

MIN_INTERVAL: Final = 2.0
MIN_JITTER: Final = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    """How often the Corefile is read again.

    The time between two reads is `interval` seconds, varied at random within a range of `jitter` seconds.
    """

    interval: float = 30.0
    jitter: float = 15.0
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's last `reload` directive. Raises CorefileError."""
    options = Options()
    for directive in block.directives:
        words = arguments.arguments(directive, 0, 2)
        interval = arguments.duration(words[0]) if words else options.interval
        if interval < MIN_INTERVAL:
            raise CorefileError(
                words[0].position, f"interval '{words[0].text}' is too short; at least {MIN_INTERVAL:g}s was expected"
            )
        jitter = arguments.duration(words[1]) if len(words) > 1 else options.jitter
        if jitter != 0 and jitter < MIN_JITTER:
            raise CorefileError(
                words[1].position, f"jitter '{words[1].text}' is too short; 0 or at least {MIN_JITTER:g}s was expected"
            )
        warnings = options.warnings + arguments.ignored_body(directive)
        options = Options(interval, min(jitter, interval / 2), warnings)
    return options


class Reload(Plugin):
    """Sets how often the Corefile is read again. Handles no queries."""

    name = "reload"
    configures_only = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with the time between two reads of the Corefile."""
        return Settings(reload=ReloadInterval(options.interval, options.jitter), warnings=options.warnings)


PLUGIN: Final = Reload
