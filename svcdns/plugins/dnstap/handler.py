"""The `dnstap` plugin: reports queries and replies to dnstap readers (docs/plugins/dnstap.md).

The plugin changes nothing in the plugin chain. The core passes packets to its taps, even if a reply comes from the
answer table (`svcdns.plugin_api.tap`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.fast_path import FastPath, FastPathQuery
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.tap import Tap, UpstreamTap
from svcdns.plugins.dnstap.connecting import Connector
from svcdns.plugins.dnstap.encoding import WallClock
from svcdns.plugins.dnstap.options import Options, Output
from svcdns.plugins.dnstap.taps import ClientTap, ForwarderTap, needs_query
from svcdns.plugins.dnstap.writer import Writer
from svcdns.wire.message import MAX_MESSAGE


class Dnstap(Plugin):
    """The dnstap outputs of one block."""

    name = "dnstap"
    reads_nothing = True
    offers = ("upstream_taps",)

    def __init__(self, options: Options, environment: Environment) -> None:
        """Makes a writer for each endpoint, or uses that of another block or of the previous configuration."""
        self._options, self._environment = options, environment
        self._clock = WallClock()
        self._writers = [(output, self._writer(output)) for output in options.outputs]
        self._needs_query = any(map(needs_query, options.outputs))

    def _writer(self, output: Output) -> Writer:
        environment, endpoint = self._environment, output.endpoint

        connector = Connector(endpoint, environment)

        def make() -> Writer:
            reports = environment.first and not endpoint.listens
            return Writer(
                endpoint.text, endpoint.queue, connector.connect, environment.counters, environment.log, reports=reports
            )

        writer: Writer = environment.kept(("dnstap", endpoint), make)
        connector.follow(writer)
        return writer

    def start(self) -> None:
        """Begins to connect."""
        for _, writer in self._writers:
            writer.start()

    def tick(self) -> None:
        """Reports dropped messages, and follows the machine's clock."""
        self._clock.adjust()
        for _, writer in self._writers:
            writer.tick()

    def taps(self, zone: bytes, transport: str) -> tuple[Tap, ...]:
        """Returns a tap for each output."""
        return tuple(
            ClientTap(output, writer, self._clock, zone, transport, self._largest) for output, writer in self._writers
        )

    def upstream_taps(self) -> tuple[UpstreamTap, ...]:
        """Returns a tap for each output. Called by *forward*."""
        return tuple(ForwarderTap(output, writer, self._clock, self._largest) for output, writer in self._writers)

    @property
    def _largest(self) -> int:
        return min((peer.limit for peer in self._environment.peers("bufsize")), default=MAX_MESSAGE)

    def answers_like(self, previous: Plugin) -> bool:  # noqa: ARG002
        """Returns True, because the plugin changes no reply."""
        return True

    def join_fast_path(self, fast_path: FastPath) -> bool:
        """Lets the fast path (forwarding without the plugin chain) call the taps before it sends a query."""
        if fast_path.ask is not None:
            fast_path.ask = partial(_ask, fast_path.ask)
        return not self._needs_query

    def join_cold_path(self, cold_path: ColdPath) -> bool:  # noqa: ARG002 - the taps are enough
        """Returns True if the plugin needs no query objects."""
        return not self._needs_query

    def name_independent(self, zone: bytes) -> bool:  # noqa: ARG002 - nothing is changed
        """Returns True, because this plugin changes no reply."""
        return True


def _ask(ask: Callable[[FastPathQuery], Reply | None], query: FastPathQuery) -> Reply | None:
    query.note_arrival()
    return ask(query)
