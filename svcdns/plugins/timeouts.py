"""`timeouts`: how long connections over TCP and TLS may take, and how many queries a connection may carry.

The plugin handles no queries. If several blocks share an address and port, the last of them with this directive is
used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Token
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.settings import Settings
from svcdns.plugin_api.timeouts import Timeouts

LEAST: Final = 1.0
MOST: Final = 86400.0
SECONDS: Final = ("read", "write", "idle")
QUERIES: Final = "maxtcpqueries"


@dataclass(frozen=True, slots=True)
class Options:
    """The time limits for connections, and the largest number of queries on a connection."""

    timeouts: Timeouts


def parse(block: Block) -> Options:
    """Returns the options of the block's last `timeouts` directive. Raises CorefileError."""
    timeouts = Timeouts()
    for directive in block.directives:
        arguments.arguments(directive, 0, 0)
        if not directive.body:
            raise CorefileError(
                directive.position, f"timeouts: at least one of {', '.join((*SECONDS, QUERIES))} was expected in braces"
            )
        timeouts = Timeouts()
        for line in directive.body:
            arguments.no_body(line)
            timeouts = _with(timeouts, line)
    return Options(timeouts)


def _with(timeouts: Timeouts, line: Directive) -> Timeouts:
    name = line.name.text
    if name in SECONDS:
        return msgspec.structs.replace(timeouts, **{name: _seconds(arguments.argument(line))})
    if name == QUERIES:
        return msgspec.structs.replace(timeouts, queries=_queries(arguments.argument(line)))
    raise arguments.unknown_option(line, (*SECONDS, QUERIES))


def _seconds(word: Token) -> float:
    value = float(word.text) if word.text.isdecimal() else arguments.duration(word)
    if not LEAST <= value <= MOST:
        raise CorefileError(word.position, f"'{word.text}' is out of range; 1s to 24h was expected")
    return value


def _queries(word: Token) -> int:
    value = arguments.integer(word, -1)
    if value == 0:
        raise CorefileError(word.position, "0 is out of range; 1 or more was expected, or -1 for no limit")
    return value


class ConnectionTimeouts(Plugin):
    """Sets the limits for connections of the block's listeners. Handles no queries."""

    name = "timeouts"
    configures_only = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with the limits for connections to the block's listeners."""
        return Settings(timeouts=options.timeouts)


PLUGIN: Final = ConnectionTimeouts
