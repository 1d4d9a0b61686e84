"""`prometheus`: metrics over HTTP, and the metrics of queries (docs/behaviour/server.md#metrics-of-queries).

The plugin handles no queries. The control process serves the metrics, and the server counts the queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.settings import HttpPage, Settings

DEFAULT: Final = ("localhost", 9153)


@dataclass(frozen=True, slots=True)
class Options:
    """The address at which the page /metrics is served."""

    address: tuple[str, int] = DEFAULT


def parse(block: Block) -> Options:
    """Returns the options of the block's `prometheus` directive. Raises CorefileError."""
    directive = arguments.once(block.directives)
    words = arguments.arguments(directive, 0, 1)
    for line in arguments.body(directive):
        if line.name.text == "tls":
            raise CorefileError(line.position, "prometheus over TLS is not built yet")
        if line.name.text != "runtime_metrics":
            raise arguments.unknown_option(line, ("tls", "runtime_metrics"))
        arguments.arguments(line, 0, 0)
    return Options(arguments.host_port(words[0]) if words else DEFAULT)


class Prometheus(Plugin):
    """Sets the address of the page /metrics, and turns on the counting of queries. Handles no queries."""

    name = "prometheus"
    configures_only = True
    has_span = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings that count the block's queries, with the address of the page /metrics."""
        return Settings(
            counts_queries=True, page=HttpPage("/metrics", options.address, "Failed to start metrics handler")
        )


PLUGIN: Final = Prometheus
