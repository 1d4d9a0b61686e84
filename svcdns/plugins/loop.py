"""`loop`: stops forwarding while forwarded queries come back to this server (docs/plugins/loop.md).

One worker sends probes: HINFO queries for secret names, which its own plugin chain forwards. If a worker receives a
probe, there is a loop, and this worker informs all workers. A name is used for one probe, and is valid for RECENT
seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.log_line import LogLine
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Client, Query
from svcdns.plugin_api.reply import Reply
from svcdns.telemetry.counters import Family, MetricKind
from svcdns.upstream.query import address_text
from svcdns.wire import names
from svcdns.wire.codes import RD, Class, ExtendedError, Rcode, Type
from svcdns.wire.edns import extended_error
from svcdns.wire.record import Edns

FIRST_PAUSE: Final = 1.0
"""Seconds until the next probe, after a probe came back or got no answer. Each further pause is twice as long."""
MAX_PAUSE: Final = 30.0
"""The longest pause in seconds while there is a loop, or while probes get no answer."""
NO_LOOP_PAUSE: Final = 300.0
"""Seconds between two probes while there is no loop."""
SETTLE: Final = 1.5
"""If a probe has not come back this many seconds after its answer, there is no loop.

A worker that receives the probe reports that through control, which takes some time.
"""
RECENT: Final = 60
"""Seconds for which the name of a probe is valid."""
_RANDOM_BITS: Final = 30
_KEY_OCTETS: Final = 16

FOUND: Final = Family(
    "svcdns_loop_found",
    MetricKind.GAUGE,
    "1 while queries forwarded from the zone come back to this server.",
    ("server", "zone"),
    uniform=True,
)


@dataclass(frozen=True, slots=True)
class Options:
    """The zone of the probes' names."""

    zone: str


def parse(block: Block) -> Options:
    """Returns the options of the block's `loop` directive. Raises CorefileError."""
    directive = arguments.once(block.directives)
    arguments.arguments(directive, 0, 0)
    arguments.no_body(directive)
    return Options(block.zones[0])


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Returns the secret key with which all workers make and recognise the names of probes."""
    return {options.zone: known.get(options.zone) or secrets.token_bytes(_KEY_OCTETS)}


class Probes:
    """The names of one block's probes.

    A name has three parts: a label with a time and a random number, a label with a keyed hash of this number and the
    block, and the zone.
    """

    def __init__(self, key: bytes, block: str, zone: str) -> None:
        """`block` is a text that only this block has."""
        self._key, self._block, self._zone = key, block.encode(), names.from_text(zone).lower()

    def make(self, now: float) -> bytes:
        """Returns the name for a new probe in wire format. `now` is in seconds, on a clock that all workers share."""
        return self._name(int(now) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS))

    def include(self, name: bytes, now: float) -> bool:
        """Returns True if the lower-case name is that of a probe of the last RECENT seconds."""
        label = name[1 : 1 + name[0]]
        if not label.isdigit():
            return False
        number = int(label)
        return 0 <= now - (number >> _RANDOM_BITS) <= RECENT and name == self._name(number)

    def _name(self, number: int) -> bytes:
        digest = hashlib.blake2b(b"%d %s" % (number, self._block), key=self._key, digest_size=8).digest()
        labels = (b"%d" % number, b"%d" % int.from_bytes(digest, "big"))
        return b"".join(bytes((len(label),)) + label for label in labels) + self._zone


class Loop(Plugin):
    """Sends probes, recognises probes that come back, and refuses to forward queries while there is a loop."""

    name = "loop"

    def __init__(self, options: Options, environment: Environment) -> None:
        """Prepares the names of probes, which contain a hash of the block's zone and first address."""
        host, port = listen = environment.listen_addresses[0]
        self._ask, self._clock, self._log = environment.ask, environment.clock, environment.log
        self._publish, self._probing = environment.publish, environment.first
        self._zone, self._block = options.zone, f"{options.zone} {address_text(listen)}"
        key = environment.data("loop", options.zone) or gather(options, {})[options.zone]
        self._probes = Probes(key, self._block, options.zone)
        self._own_client = Client(host or "127.0.0.1", 0, host or "127.0.0.1", port, "udp")
        self._counters, self._server = environment.counters, environment.server
        self._found = (environment.data("loop", self._block) or b"").decode()
        """The name of the last probe that came back, with its source address and destination address.

        Empty if there is no loop.
        """
        environment.on_data("loop", self._block, self._found_changed)
        self._live = False
        self._fast_path = FastPath()
        self._probe = ""
        self._probing_task: asyncio.Task[bool] | None = None
        self._answered_at = 0.0
        self._pause, self._due = FIRST_PAUSE, 0.0

    def start(self) -> None:
        """Sends the first probe."""
        self._live, self._due = True, self._clock()
        self._show()
        self.tick()

    def stop(self) -> None:
        """Cancels the current probe."""
        self._live = False
        self._counters.set(self._counters.cell(FOUND, self._server, self._zone), 0)
        if self._probing_task is not None and not self._probing_task.cancel():
            self._probing_task.exception()  # without this call, asyncio logs the exception

    def answers_like(self, previous: Plugin) -> bool:  # noqa: ARG002
        """Returns True: replies of the following plugins pass unchanged, and SERVFAIL replies are not stored."""
        return True

    def handle(self, query: Query, following: Following) -> Answer:
        """Passes the query on, or returns SERVFAIL while there is a loop.

        A probe that came back gets SERVFAIL. A probe that this worker sends is always passed on.
        """
        if query.rtype == Type.HINFO and self._probes.include(query.key, self._clock()):
            if query.client is self._own_client:
                return following(query)
            self._came_back(query)
            return _looping(query)
        return _looping(query) if self._found else following(query)

    def join_fast_path(self, fast_path: FastPath) -> bool:
        """Returns True: the fast path (forwarding without the plugin chain) may be used, unless there is a loop."""
        self._fast_path, fast_path.is_shut = fast_path, bool(self._found)
        return True

    # -- sending probes

    def tick(self) -> None:
        """Sends a probe if it is time for the next one, and evaluates the current probe. Called about once a second."""
        if not self._live or not self._probing:
            return
        now = self._clock()
        if self._probing_task is None:
            if now >= self._due:
                name = self._probes.make(now)
                self._probe = names.to_text(name)
                self._probing_task = asyncio.ensure_future(self._send(name, now))
        elif self._probing_task.done() and now - self._answered_at >= SETTLE:
            failure = self._probing_task.exception()
            if failure is not None:
                self._log.error("the probe failed", exc_info=failure)
            answered = failure is None and self._probing_task.result()
            self._probing_task = None
            self._due = now + self._evaluate(answered=answered)

    async def _send(self, name: bytes, now: float) -> bool:
        """Sends a probe. Returns True if an upstream answered it."""
        self._answered_at = now
        query = Query(name, name, Type.HINFO, Class.IN, RD, None, self._own_client, self._ask, started=now)
        answer = self._ask(query)
        reply = answer if isinstance(answer, Reply) else await answer
        self._answered_at = self._clock()
        return reply.has_message and reply.rcode != Rcode.SERVFAIL

    def _evaluate(self, *, answered: bool) -> float:
        """Decides after a probe whether there is a loop. Returns the seconds until the next probe.

        `answered` is false if no upstream answered; the probe then shows nothing.
        """
        pause = self._pause
        self._pause = min(MAX_PAUSE, 2 * pause)
        if self._found.startswith(self._probe + " "):
            return pause
        if answered:
            self._publish("loop", self._block, b"")
        if answered or (pause == MAX_PAUSE and not self._found):
            self._pause = FIRST_PAUSE
            return NO_LOOP_PAUSE
        return pause

    # -- probes that come back

    def _came_back(self, query: Query) -> None:
        probe, client = names.to_text(query.key), query.client
        if not self._found.startswith(probe + " "):
            addresses = f"{address_text((client.address, client.port))} -> {address_text((client.local_address, client.local_port))}"
            self._publish("loop", self._block, f"{probe} {addresses}".encode())

    def _found_changed(self, payload: bytes) -> None:
        """Called in every worker when one of them has found a loop, or when the loop has ended (`payload` is empty)."""
        before, self._found = self._found, payload.decode()
        self._fast_path.is_shut = bool(self._found)
        if not self._live:
            return
        self._show()
        if self._found and not before:
            self._due = min(self._due, self._clock() + self._pause)
        if not self._probing or bool(before) == bool(self._found):
            return
        if self._found:
            probe, _, addresses = self._found.partition(" ")
            self._log.error(
                'Loop (%s) detected for zone "%s". Query: "HINFO %s"; forward to servers that do not send queries back; '
                "queries to be forwarded out of this zone get SERVFAIL until the loop is gone",
                addresses, self._zone, probe,
            )  # fmt: skip
        else:
            self._log.info(LogLine("the loop is gone: forwarding again", zone=self._zone))

    def _show(self) -> None:
        self._counters.set(self._counters.cell(FOUND, self._server, self._zone), bool(self._found))


def _looping(query: Query) -> Reply:
    """Returns SERVFAIL. Clients that use EDNS also get the extended error Not Ready (RFC 8914 §4.15)."""
    edns = (
        Edns(options=(extended_error(ExtendedError.NOT_READY, "forwarding loop"),)) if query.edns is not None else None
    )
    return Reply(rcode=Rcode.SERVFAIL, flags=query.reply_flags, edns=edns)


PLUGIN: Final = Loop
"""The plugin class of the directive `loop`."""
