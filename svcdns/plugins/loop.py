"""`loop`: finds out when what we forward leads back to us, and forwards nothing until that is over.

A probe is a question for a name that nobody else can make, put into our own chain from inside. One that then comes in through a socket
has been led back here. Whichever worker sees that tells all of them; one of them alone sends probes. Rules: a probe always goes out, one
that came back never does; no name is used twice, so that no cache on the way can answer; only names that we made lately count, so that
whoever reads them on the way cannot use them later.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
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

FIRST: Final = 1.0
"""Seconds from a probe that came back, or that nobody answered, to the next one; each further pause is twice as long."""
SLOWEST: Final = 30.0
"""Seconds from probe to probe while there is a loop, at most; and how long probes without an answer are tried so often."""
CALM: Final = 300.0
"""Seconds from probe to probe while all is well."""
SETTLE: Final = 1.5
"""Seconds from a probe's answer until it counts as not come back: a worker that saw it come back says so through control."""
LATELY: Final = 60
"""Seconds in which a probe that comes back counts."""
_RANDOM: Final = 30
_KEY: Final = 16

FOUND: Final = Family(
    "svcdns_loop_found",
    MetricKind.GAUGE,
    "1 while queries forwarded from the zone come back to this server.",
    ("server", "zone"),
    uniform=True,
)


@dataclass(frozen=True, slots=True)
class Options:
    """The zone that the probes' names lie in."""

    zone: str


def parse(block: Block) -> Options:
    """The options of the block's `loop` directive. Raises CorefileError."""
    directive = arguments.once(block.directives)
    arguments.arguments(directive, 0, 0)
    arguments.no_body(directive)
    return Options(block.zones[0])


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """The key that probes of the zone are made with, for all workers; made once."""
    return {options.zone: known.get(options.zone) or secrets.token_bytes(_KEY)}


class Probes:
    """The names of one block's probes: when, and at random; a mark that takes the key to make; the zone."""

    def __init__(self, key: bytes, place: str, zone: str) -> None:
        """`place` is what tells the block from others of the same zone."""
        self._key, self._place, self._zone = key, place.encode(), names.from_text(zone).lower()

    def make(self, now: float) -> bytes:
        """A new one, as wire bytes; `now` in seconds on a clock that all workers share."""
        return self._name(int(now) << _RANDOM | secrets.randbits(_RANDOM))

    def include(self, name: bytes, now: float) -> bool:
        """Whether the name, lowered, is one that was made lately."""
        label = name[1 : 1 + name[0]]
        if not label.isdigit():
            return False
        number = int(label)
        return 0 <= now - (number >> _RANDOM) <= LATELY and name == self._name(number)

    def _name(self, number: int) -> bytes:
        mark = hashlib.blake2b(b"%d %s" % (number, self._place), key=self._key, digest_size=8).digest()
        labels = (b"%d" % number, b"%d" % int.from_bytes(mark, "big"))
        return b"".join(bytes((len(label),)) + label for label in labels) + self._zone


class Loop(Plugin):
    """Sends probes, looks for those that come back, and stands before what forwards."""

    name = "loop"

    def __init__(self, options: Options, environment: Environment) -> None:
        """The block is known by its first address, and its zone."""
        host, port = listen = environment.listen_addresses[0]
        self._ask, self._clock, self._log = environment.ask, environment.clock, environment.log
        self._publish, self._probing = environment.publish, environment.first
        self._zone, self._place = options.zone, f"{options.zone} {address_text(listen)}"
        key = environment.data("loop", options.zone) or gather(options, {})[options.zone]
        self._probes = Probes(key, self._place, options.zone)
        self._myself = Client(host or "127.0.0.1", 0, host or "127.0.0.1", port, "udp")
        self._counters, self._server = environment.counters, environment.server
        self._found = (environment.data("loop", self._place) or b"").decode()
        """The last probe that came back, and between what addresses; empty where there is no loop."""
        environment.on_data("loop", self._place, self._told)
        self._live = False
        self._fast_path = FastPath()
        self._probe = ""
        self._asking: asyncio.Task[bool] | None = None
        self._answered_at = 0.0
        self._pause, self._due = FIRST, 0.0

    def start(self) -> None:
        """Sends the first probe."""
        self._live, self._due = True, self._clock()
        self._show()
        self.tick()

    def stop(self) -> None:
        """Ends the probe that is out; what its successor in a new chain finds shows itself."""
        self._live = False
        self._counters.set(self._counters.cell(FOUND, self._server, self._zone), 0)
        if self._asking is not None and not self._asking.cancel():
            self._asking.exception()  # or asyncio complains that nobody looked

    def handle(self, query: Query, following: Following) -> Answer:
        """Hands questions on while there is no loop, and probes of our own always."""
        if query.rtype == Type.HINFO and self._probes.include(query.key, self._clock()):
            if query.client is self._myself:
                return following(query)
            self._came_back(query)
            return _looping(query)
        return _looping(query) if self._found else following(query)

    def join_fast_path(self, fast_path: FastPath) -> bool:
        """Everything while there is no loop: probes are of a type that never goes this way."""
        self._fast_path, fast_path.is_shut = fast_path, bool(self._found)
        return True

    # -- probing

    def tick(self) -> None:
        """Sends a probe when one is due, and judges the one that is out; called about once a second."""
        if not self._live or not self._probing:
            return
        now = self._clock()
        if self._asking is None:
            if now >= self._due:
                name = self._probes.make(now)
                self._probe = names.to_text(name)
                self._asking = asyncio.ensure_future(self._send(name, now))
        elif self._asking.done() and now - self._answered_at >= SETTLE:
            failure = self._asking.exception()
            if failure is not None:
                self._log.error("the probe failed: %r", failure)
            answered = failure is None and self._asking.result()
            self._asking = None
            self._due = now + self._judged(answered=answered)

    async def _send(self, name: bytes, now: float) -> bool:
        """Asks ourselves; whether somebody answered who could: until upstreams are reached, nothing can be told."""
        self._answered_at = now
        query = Query(name, name, Type.HINFO, Class.IN, RD, None, self._myself, self._ask, started=now)
        answer = self._ask(query)
        reply = answer if isinstance(answer, Reply) else await answer
        self._answered_at = self._clock()
        return reply.has_message and reply.rcode != Rcode.SERVFAIL

    def _judged(self, *, answered: bool) -> float:
        """What the probe that was out tells; seconds until the next one."""
        pause = self._pause
        self._pause = min(SLOWEST, 2 * pause)
        if self._found.startswith(self._probe + " "):
            return pause
        if answered:
            self._publish("loop", self._place, b"")
        if answered or (pause == SLOWEST and not self._found):
            self._pause = FIRST
            return CALM
        return pause

    # -- what is found

    def _came_back(self, query: Query) -> None:
        probe, client = names.to_text(query.key), query.client
        if not self._found.startswith(probe + " "):
            way = f"{address_text((client.address, client.port))} -> {address_text((client.local_address, client.local_port))}"
            self._publish("loop", self._place, f"{probe} {way}".encode())

    def _told(self, payload: bytes) -> None:
        """A worker saw a probe come back, or one of them got through (nothing)."""
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
            probe, _, way = self._found.partition(" ")
            self._log.error(
                'Loop (%s) detected for zone "%s", see docs/plugins/loop.md. Query: "HINFO %s"; '
                "what would be forwarded out of this zone gets SERVFAIL until the loop is gone",
                way, self._zone, probe,
            )  # fmt: skip
        else:
            self._log.info('the loop for zone "%s" is gone: forwarding again', self._zone)

    def _show(self) -> None:
        self._counters.set(self._counters.cell(FOUND, self._server, self._zone), bool(self._found))


def _looping(query: Query) -> Reply:
    """SERVFAIL; clients with EDNS learn why (RFC 8914 §4.15: the server is not fully functional)."""
    edns = Edns(options=(extended_error(ExtendedError.NOT_READY, "forwarding loop"),)) if query.edns is not None else None
    return Reply(rcode=Rcode.SERVFAIL, flags=query.reply_flags, edns=edns)


PLUGIN: Final = Loop
"""The plugin `loop`."""
