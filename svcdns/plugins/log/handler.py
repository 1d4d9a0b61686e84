"""The `log` plugin: writes a log line for every query (docs/behaviour/plugins.md#log).

The server calls `observe` after each reply of the plugin chain, and the packet observer after each other reply. Both
write the same line.
"""

from __future__ import annotations

from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Client, PacketObserver, Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.reply_type import class_of, class_of_packet
from svcdns.plugin_api.settings import Settings
from svcdns.plugins.log.line import METADATA, compiled, of_objects, of_packets
from svcdns.plugins.log.options import Options
from svcdns.telemetry.logging import write_info
from svcdns.wire import names
from svcdns.wire.message import MAX_MESSAGE
from svcdns.wire.request import read_query_name


class Log(Plugin):
    """Writes a log line for each answered query that a `log` directive of the block selects."""

    name = "log"
    reads_nothing = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with a warning for each word of the Corefile that has no effect."""
        return Settings(warnings=options.warnings)

    def __init__(self, options: Options, environment: Environment) -> None:
        """Compiles the formats."""
        self._rules = [  # no zones means all zones, and None means all classes
            (
                () if "." in rule.zones else tuple(names.from_text(zone).lower() for zone in rule.zones),
                None if "all" in rule.classes else rule.classes,
                compiled(rule.format),
            )
            for rule in options.rules
        ]
        self._needs_objects = any(METADATA in rule.format for rule in options.rules)
        self._largest = min((peer.limit for peer in environment.peers("bufsize")), default=MAX_MESSAGE)

    def handle(self, query: Query, following: Following) -> Answer:
        """Returns the following plugins' answer. `observe` writes the log line later."""
        return following(query)

    def answers_like(self, previous: Plugin) -> bool:  # noqa: ARG002
        """Returns True, because the plugin changes no reply."""
        return True

    def observe(self, query: Query, reply: Reply, size: int, seconds: float) -> None:
        """Writes the log line of one query.

        `size` is the reply's length in octets. `seconds` is the time from the query's arrival to the reply.
        """
        for zones, classes, line in self._rules:
            if not zones or any(names.is_within(query.key, zone) for zone in zones):
                if classes is None or class_of(query, reply) in classes:
                    write_info(line(of_objects(query, reply, size, seconds)))
                return

    def packet_observer(self) -> PacketObserver | None:
        """Returns `_observe_packets`, or None if the format of a line has metadata."""
        return None if self._needs_objects else self._observe_packets

    def _observe_packets(self, packet: bytes, wire: bytes, client: Client, seconds: float) -> None:
        """Writes the log line of one query, as `observe` does."""
        for zones, classes, line in self._rules:
            name, end = read_query_name(packet)
            key = name.lower()
            if not zones or any(names.is_within(key, zone) for zone in zones):
                if classes is None or class_of_packet(packet, wire, end + 4) in classes:
                    write_info(line(of_packets(packet, wire, client, seconds, key, end, self._largest)))
                return

    def join_fast_path(self, fast_path: FastPath) -> bool:  # noqa: ARG002 - `packet_observer` is enough
        """Returns True, because this plugin changes nothing on the fast path (forwarding without the plugin chain)."""
        return True

    def join_cold_path(self, cold_path: ColdPath) -> bool:  # noqa: ARG002 - `packet_observer` is enough
        """Returns True, because this plugin changes nothing on the cold path (replies without the plugin chain)."""
        return True

    def name_independent(self, zone: bytes) -> bool:  # noqa: ARG002 - nothing is changed
        """Returns True, because this plugin changes no reply."""
        return True
