"""The `forward` plugin: asks other servers (docs/behaviour/plugins.md#forward).

Questions that are alike share one flight. What comes back is passed on with its flags, records and OPT as they are; it is never put into
the answer table from here, that is the cache's business. A flight goes on when its clients are gone, so that the cache gets its reply.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from svcdns.eventloop.timer_wheel import TimerWheel
from svcdns.plugin_api.contract import Following
from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.fast_path import FastPath, FastPathQuery, UpstreamReply
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.plugins.forward import tls_files
from svcdns.plugins.forward.exchange import Flight, FlightKey, Team, servfail
from svcdns.plugins.forward.leak_guard import LeakGuard
from svcdns.plugins.forward.metrics import Cells
from svcdns.plugins.forward.options import Options, Rule
from svcdns.plugins.forward.upstream_addresses import Named, Secured
from svcdns.plugins.forward.upstream_files import unpacked
from svcdns.tls.errors import TlsError
from svcdns.upstream.query import Address, Question
from svcdns.upstream.server import Manner, Server
from svcdns.upstream.tcp import Keeping
from svcdns.upstream.tls import SecureConnector, Trust
from svcdns.wire import names
from svcdns.wire.codes import AD, CD, RD, Rcode

MAX_IN_FLIGHT: Final = 4096
"""Flights of one `forward` line at once, whatever `max_concurrent` says: memory is bounded."""
MAX_WAITERS: Final = 1024
"""Questions that wait for one flight."""
MAX_OF_CLIENT: Final = 2048
"""Questions of one client address that wait: half of all flights are left to others."""


class Forward:
    """The `forward` lines of a block."""

    name = "forward"

    def __init__(self, options: Options, environment: Environment) -> None:
        """Servers are kept over a change of the chain."""
        self._lines = [_Line(rule, environment) for rule in options.rules]

    def handle(self, query: Query, following: Following) -> Answer:
        """Asks the upstreams of the first line that takes the name; other names go on."""
        if query.upstream_reply is not None:
            return query.upstream_reply
        return self._from(0, query, following)

    def _from(self, number: int, query: Query, following: Following) -> Answer:
        """The answer of the first line that takes the name, from that number on."""
        for at, line in enumerate(self._lines[number:], number):
            if line.takes(query.key):
                answer: Answer = line.guard.stopped(query) or line.answer(query)
                last = at + 1 == len(self._lines)
                return answer if last or not line.hands_on else self._or_next(answer, at, query, following)
        return following(query)

    def join_fast_path(self, fast_path: FastPath) -> bool:
        """Takes what leaves by the short way, where one line takes all of it; what must not leave goes by way of its guard."""
        line = self._lines[0]
        if line.hands_on or not line.takes_all:
            return False
        fast_path.zones += line.guard.zones
        fast_path.ask = line.relayed
        return True

    def is_down(self, key: bytes) -> bool:
        """Whether all upstreams that a name goes to first are known not to answer; `cache` asks this."""
        line = next((line for line in self._lines if line.takes(key)), None)
        return line is not None and line.is_down

    async def _or_next(self, answer: Answer, at: int, query: Query, following: Following) -> Reply:
        """The answer of a line, or where that leaves the question to the next one, what that answers."""
        reply = answer if isinstance(answer, Reply) else await answer
        if not self._lines[at].leaves(reply):
            return reply
        answer = self._from(at + 1, query, following)
        return answer if isinstance(answer, Reply) else await answer


class _Line:
    """One `forward` line at work."""

    def __init__(self, rule: Rule, environment: Environment) -> None:
        self._rule, self._environment = rule, environment
        self.guard = LeakGuard(rule, environment)
        self.hands_on = bool(rule.next) or rule.next_on_nodata
        """Whether there are replies that the next line is tried for."""
        self._zone = names.from_text(rule.zone).lower()
        self._excepted = tuple(names.from_text(zone).lower() for zone in rule.excepted)
        self._cells = Cells(environment.counters)
        self._alarms: TimerWheel = environment.kept(("forward", "timer wheel"), partial(TimerWheel, environment.clock))
        self._trust = self._make_trust()
        self._team = self._make_team()
        for upstream in rule.upstreams:
            if isinstance(upstream, Named):
                environment.on_data("forward", rule.data_key(upstream), self._changed)
        if rule.trust_key:
            environment.on_data("forward", rule.trust_key, self._trust_changed)
        self._flights: dict[FlightKey, Flight] = {}
        self._waiting = 0
        self._clients: dict[str, int] = {}

    def _changed(self, _: bytes) -> None:
        """A file names other upstreams now; what is on its way stays with those that were asked."""
        before, self._team = self._team, self._make_team()
        for server in before.servers:
            if server not in self._team.servers:
                server.rest()

    def _trust_changed(self, payload: bytes) -> None:
        """The files of `tls` hold something else, for connections from now on."""
        assert self._trust is not None
        try:
            self._trust.take(tls_files.unpacked(payload))
        except TlsError as error:
            self._environment.log.error("tls: %s; what was read before stays", error)

    def _make_trust(self) -> Trust | None:
        """What connections over TLS are made with, kept over a change of the chain; None where there are none. Raises TlsError."""
        environment, key = self._environment, self._rule.trust_key
        content = environment.data("forward", key) if key else None
        if content is None:
            return None
        material = tls_files.unpacked(content)
        made: Trust = environment.kept(("forward", "trust", key), partial(Trust, material, environment.poll_sockets))
        made.take(material)
        return made

    def _make_team(self) -> Team:
        rule, environment = self._rule, self._environment
        manner = Manner(
            read_timeout=rule.read_timeout,
            keeping=Keeping(expire=rule.expire, max_age=rule.max_age, max_idle=rule.max_idle_conns),
            max_fails=rule.max_fails,
            probe_interval=rule.health_check,
            probe_name=names.from_text(rule.health_domain),
            probe_recursion=rule.health_recursion,
            probe_tcp=rule.force_tcp,
            source=rule.source_address,
        )
        targets: dict[Address, str | None] = {}
        """Each with the name to verify, which may be empty, or None for clear text; the first of an address counts."""
        for upstream in rule.upstreams:
            if isinstance(upstream, Named):
                content = environment.data("forward", rule.data_key(upstream))
                name = rule.server_name or upstream.server_name if upstream.server_name else None
                for address in unpacked(content) if content else []:
                    targets.setdefault(address, name)
            elif isinstance(upstream, Secured):
                targets.setdefault(upstream.address, upstream.server_name or rule.server_name)
            else:
                targets.setdefault(upstream, None)

        def make(address: Address, name: str | None) -> Server:
            connector = None
            if name is not None:
                if self._trust is None:
                    raise TlsError("forward: what upstreams over TLS are trusted by has not come")
                connector = SecureConnector(address, name, self._trust, manner.source)
            return Server(address, manner, environment.counters, self._alarms, connector=connector)

        servers = []
        for address, name in targets.items():
            secured = () if name is None else (name, rule.trust_key)
            servers.append(environment.kept(("forward", address, manner, *secured), partial(make, address, name)))
        return Team(rule, servers, self._cells, self._alarms)

    @property
    def takes_all(self) -> bool:
        """Whether there is no name that it does not take."""
        return self._zone == names.ROOT and not self._excepted

    def takes(self, key: bytes) -> bool:
        """Whether the name is to be forwarded by this line."""
        if not names.is_within(key, self._zone):
            return False
        if not self._excepted or key == self._zone:
            return True
        return not any(names.is_within(key, zone) for zone in self._excepted)

    @property
    def is_down(self) -> bool:
        """Whether no upstream is known to answer."""
        return not any(server.health.usable for server in self._team.servers)

    def leaves(self, reply: Reply) -> bool:
        """Whether this reply is one of those. A failure to get any reply is not."""
        empty = self._rule.next_on_nodata and reply.rcode == Rcode.NOERROR and not reply.answer
        return reply.has_message and (empty or reply.rcode in self._rule.next)

    def answer(self, query: Query) -> Answer:
        """The upstreams' answer, when it comes."""
        tcp = self._rule.force_tcp or (query.client.protocol == "tcp" and not self._rule.prefer_udp)
        flags = query.flags & (RD | AD | CD)
        key = (query.key, query.rtype, query.rclass, flags, query.edns, tcp, query.avoid)
        later = Deferred()
        return self._join(key, query, query.client.address, lambda completed: later.set(completed.reply)) or later

    def relayed(self, query: FastPathQuery) -> Reply | None:
        """The same for a question that has come the short way."""
        name, rtype, rclass, _, _ = query.key
        key = (name, rtype, rclass, RD | AD, query.edns, self._rule.force_tcp, "")
        return self._join(key, query, query.client, query.completed)

    def _join(self, key: FlightKey, asked: Query | FastPathQuery, client: str, land: Callable[[UpstreamReply], None]) -> Reply | None:
        """Has somebody wait for the flight of a question, a new one if there is none; the reply, if that must not be."""
        limit = self._rule.max_concurrent
        if limit and self._waiting >= limit:
            return self._refused("concurrent queries", limit)
        waiting = self._clients.get(client, 0)
        if waiting >= MAX_OF_CLIENT:
            return self._refused("concurrent queries of one client", MAX_OF_CLIENT)
        flight = self._flights.get(key)
        if flight is None:
            avoid = key[-1]
            if avoid and self._team.is_alone(avoid):
                return rcode_only(Rcode.SERVFAIL, "no other upstream")
            if len(self._flights) >= MAX_IN_FLIGHT:
                return self._refused("concurrent queries", MAX_IN_FLIGHT)
            flight = Flight(self._team, _question(asked, key), key, self._landed, tcp=key[5], avoid=avoid)
            if not flight.start():
                return servfail(None)
            self._flights[key] = flight
        elif len(flight.waiters) >= MAX_WAITERS:
            return self._refused("concurrent queries for one name", MAX_WAITERS)
        flight.waiters.append((client, land))
        self._clients[client] = waiting + 1
        self._waiting += 1
        return None

    def _refused(self, what: str, limit: int) -> Reply:
        self._cells.rejected()
        return rcode_only(Rcode.REFUSED, f"{what} exceeded maximum {limit}")

    def _landed(self, flight: Flight) -> None:
        del self._flights[flight.key]
        clients = self._clients
        self._waiting -= len(flight.waiters)
        for client, land in flight.waiters:
            left = clients[client] - 1
            if left:
                clients[client] = left
            else:
                del clients[client]
            land(flight)


def _question(asked: Query | FastPathQuery, key: FlightKey) -> Question:
    """What upstreams are asked."""
    _, rtype, rclass, flags, edns, _, _ = key
    if isinstance(asked, Query):
        return Question(asked.name, rtype, rclass, flags, edns)
    wire = asked.wire
    return Question(wire[10 : 10 + len(key[0])], rtype, rclass, flags, edns, wire)
