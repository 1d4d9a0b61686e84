"""The `log` plugin: writes a log line for every query (docs/behaviour/plugins.md#log).

The server calls `observe` after each reply of the plugin chain, and the packet observer after each other reply. Both
write the same line.
"""

from __future__ import annotations

from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.placeholders import JSON, METADATA, Answered, as_json, compiled, of_objects, of_packets
from svcdns.plugin_api.query import Answer, Client, PacketObserver, Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.reply_type import class_of, class_of_packet
from svcdns.plugin_api.settings import Settings
from svcdns.plugins.log.options import Options, Rule
from svcdns.telemetry.logging import write_info, write_line
from svcdns.wire import names
from svcdns.wire.message import MAX_MESSAGE
from svcdns.wire.request import read_query_name


class _Rule:
    """The replies that one `log` directive logs. If `zones` is empty, all zones; if `classes` is None, all classes."""

    __slots__ = ("_every", "_line", "_seen", "_write", "classes", "slower", "zones")

    def __init__(self, rule: Rule) -> None:
        self.zones = () if "." in rule.zones else tuple(names.from_text(zone).lower() for zone in rule.zones)
        self.classes = None if "all" in rule.classes else rule.classes
        self.slower, self._every, self._seen = rule.slower, rule.every, 0
        is_json = rule.format == JSON
        self._line, self._write = (as_json, write_line) if is_json else (compiled(rule.format), write_info)

    def write(self, answered: Answered) -> None:
        """Writes the line of a reply, or counts the reply if it is one of those that `every` leaves out."""
        if self._every > 1:
            self._seen += 1
            if self._seen % self._every != 1:
                return
        self._write(self._line(answered))


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
        self._rules = [_Rule(rule) for rule in options.rules]
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
        for rule in self._rules:
            if not rule.zones or any(names.is_within(query.key, zone) for zone in rule.zones):
                if seconds >= rule.slower and (rule.classes is None or class_of(query, reply) in rule.classes):
                    rule.write(of_objects(query, reply, size, seconds))
                return

    def packet_observer(self) -> PacketObserver | None:
        """Returns `_observe_packets`, or None if the format of a line has metadata."""
        return None if self._needs_objects else self._observe_packets

    def _observe_packets(self, packet: bytes, wire: bytes, client: Client, seconds: float) -> None:
        """Writes the log line of one query, as `observe` does."""
        for rule in self._rules:
            name, end = read_query_name(packet)
            key = name.lower()
            if not rule.zones or any(names.is_within(key, zone) for zone in rule.zones):
                if seconds >= rule.slower and (
                    rule.classes is None or class_of_packet(packet, wire, end + 4) in rule.classes
                ):
                    rule.write(of_packets(packet, wire, client, seconds, key, end, self._largest))
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
