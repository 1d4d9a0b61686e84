"""A listener whose chain returns the test's reply, and sockets on loopback."""

from __future__ import annotations

import socket

from svcdns.chain.routing import Listener, Route
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply
from svcdns.serving.answer_table import AnswerTable
from svcdns.serving.in_flight import InFlight
from svcdns.serving.metrics import QueryMetrics
from svcdns.serving.responder import Responder
from svcdns.telemetry.counters import Counters
from svcdns.wire.codes import AA, RD
from tests.support.world import Clock, records

REPLY = Reply(flags=AA | RD, answer=records("a.b. 5 IN A 192.0.2.1"), lifetime=UNTIL_CHANGED, dependencies=(("fact",),))


class ResponderSetup:
    """A responder with its table and counters."""

    def __init__(self, protocol: str, reply: Answer = REPLY) -> None:
        """Creates a responder whose chain returns `reply` for every query."""
        self.reply, self.asked = reply, 0
        self.clock, self.counters = Clock(), Counters()
        self.listener = Listener("127.0.0.1", 53)
        self.listener.routes[b"\0"] = Route(b"\0", ".", self.chain, counted=True, writer="test")
        self.table, self.in_flight = AnswerTable(1 << 24, self.clock), InFlight()
        self.metrics = QueryMetrics(self.counters, self.listener.server, protocol, 1)
        self.responder = Responder(self.listener, self.table, self.metrics, protocol, self.in_flight)

    def chain(self, _query: Query) -> Answer:
        """Counts the query, and returns the test's reply."""
        self.asked += 1
        return self.reply


def bound(host: str = "127.0.0.1") -> socket.socket:
    """Returns a non-blocking datagram socket that is bound to the host."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((host, 0))
    return sock
