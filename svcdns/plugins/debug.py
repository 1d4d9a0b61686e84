"""`debug`: writes DEBUG lines to the log. The plugin handles no queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.settings import Settings


@dataclass(frozen=True, slots=True)
class Options:
    """`debug` has no options."""


def parse(block: Block) -> Options:
    """Checks that the directive has no arguments. Raises CorefileError."""
    for directive in block.directives:
        arguments.arguments(directive, 0, 0)
        arguments.no_body(directive)
    return Options()


class Debug(Plugin):
    """Turns on DEBUG lines in the log. Handles no queries."""

    name = "debug"
    configures_only = True

    @classmethod
    def settings(cls, options: Options) -> Settings:  # noqa: ARG003 - there are none
        """Returns settings that turn on DEBUG lines in the log."""
        return Settings(debug=True)


PLUGIN: Final = Debug
