"""`metadata`: the queries of the block have metadata; see `svcdns.plugin_api.metadata`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.settings import Settings


@dataclass(frozen=True, slots=True)
class Options:
    """The zones, as text, whose queries have metadata."""

    zones: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's last `metadata` directive. Raises CorefileError."""
    options = Options(block.zones)
    for directive in block.directives:
        if directive.body is not None:
            raise CorefileError(directive.position, "plugin/metadata: no block in braces was expected")
        zones = arguments.zones(directive.arguments, block.zones)
        options = Options(zones, arguments.ignored_zones(directive.arguments))
    return options


class Metadata(Plugin):
    """Sets that queries have metadata. The handler changes nothing."""

    name = "metadata"
    reads_nothing = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with the zones, and with a warning for each word that has no effect."""
        return Settings(metadata=options.zones, warnings=options.warnings)

    def __init__(self, options: Options, environment: Environment) -> None:
        """Does nothing: the core collects the metadata."""

    def name_independent(self, zone: bytes) -> bool:  # noqa: ARG002 - all zones
        """Returns True: negative answers pass unchanged."""
        return True

    def join_fast_path(self, fast_path: FastPath) -> bool:  # noqa: ARG002 - nothing to set
        """Returns True: forwarded queries that no plugin looks at need no metadata."""
        return True


PLUGIN: Final = Metadata
