"""A DNS server on loopback that answers from given records, over UDP and TCP on one port, in its own thread.

The server follows CNAME records and distinguishes NXDOMAIN from NODATA. The root counts as nonexistent. Negative
answers have the SOA record of its only zone. A reply that is too large is sent without records and with TC.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from collections.abc import Iterable, Mapping
from typing import Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.support.server import TIMEOUT, free_port


class ZoneUpstream:
    """A running DNS server with the given records. `asked` counts the queries."""

    def __init__(self, records: Iterable[str], failing: Mapping[str, str] | None = None, port: int = 0) -> None:
        """Creates the server. `records` are zone-file lines with absolute names. `failing` has the rcodes of names that
        always fail.
        """
        self.asked = 0
        self._rrsets: dict[tuple[dns.name.Name, int], dns.rrset.RRset] = {}
        for line in records:
            owner, ttl, rclass, rtype, rdata = line.split(" ", 4)
            new = dns.rrset.from_text(owner, int(ttl), rclass, rtype, rdata)
            kept = self._rrsets.setdefault((new.name, new.rdtype), new)
            kept.update(new)  # type: ignore[no-untyped-call]
        self._failing = {
            dns.name.from_text(name): dns.rcode.from_text(rcode) for name, rcode in (failing or {}).items()
        }
        self._soa = next(rrset for (_, rtype), rrset in self._rrsets.items() if rtype == dns.rdatatype.SOA)
        self.port = port or free_port()

    def lose(self, name: str) -> None:
        """Removes a name."""
        gone = dns.name.from_text(name)
        self._rrsets = {key: rrset for key, rrset in self._rrsets.items() if key[0] != gone}

    def __enter__(self) -> Self:
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._tcp = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self._udp.bind(("127.0.0.1", self.port))
        self._stop, self._stopper = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopper.send(b"x")
        self._thread.join(TIMEOUT)
        for sock in (self._udp, self._tcp, self._stop, self._stopper):
            sock.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as ready:
            for sock in (self._udp, self._tcp, self._stop):
                ready.register(sock, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    if key.fileobj is self._stop:
                        for other in [item.fileobj for item in ready.get_map().values()]:
                            if other not in (self._udp, self._tcp, self._stop):
                                other.close()  # type: ignore[union-attr]
                        return
                    self._readable(key.fileobj, ready)  # type: ignore[arg-type]

    def _readable(self, sock: socket.socket, ready: selectors.BaseSelector) -> None:
        if sock is self._udp:
            wire, client = sock.recvfrom(65535)
            if reply := self._answer(wire, tcp=False):
                sock.sendto(reply, client)
        elif sock is self._tcp:
            ready.register(sock.accept()[0], selectors.EVENT_READ)
        elif not self._answered_stream(sock):
            ready.unregister(sock)
            sock.close()

    def _answered_stream(self, stream: socket.socket) -> bool:
        """Answers one message of a stream. Returns False at the end of the stream. Clients on loopback send each
        message in one piece.
        """
        try:
            head = stream.recv(2, socket.MSG_WAITALL)
            wire = stream.recv(struct.unpack("!H", head)[0], socket.MSG_WAITALL) if len(head) == 2 else b""
            reply = self._answer(wire, tcp=True) if wire else None
            if reply:
                stream.sendall(struct.pack("!H", len(reply)) + reply)
        except OSError:
            return False
        return bool(wire)

    def _answer(self, wire: bytes, *, tcp: bool) -> bytes | None:
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return None
        if not query.question or query.flags & dns.flags.QR:
            return None
        self.asked += 1
        reply = self._reply(query)
        size = 65535 if tcp else max(512, query.payload if query.edns >= 0 else 512)
        try:
            return reply.to_wire(max_size=size)
        except dns.exception.TooBig:
            short = dns.message.make_response(query, recursion_available=True)
            short.flags |= dns.flags.TC
            return short.to_wire()

    def _reply(self, query: dns.message.Message) -> dns.message.Message:
        reply = dns.message.make_response(query, recursion_available=True)
        name, wanted = query.question[0].name, query.question[0].rdtype
        name = dns.name.from_text(name.to_text().lower())
        if name in self._failing:
            reply.set_rcode(self._failing[name])
            return reply
        while (found := self._rrsets.get((name, wanted))) is None:
            alias = self._rrsets.get((name, dns.rdatatype.CNAME))
            if alias is None:
                break
            reply.answer.append(alias)
            name = alias[0].target
        if found is not None:
            reply.answer.append(found)
            return reply
        if name == dns.name.root or not any(owner.is_subdomain(name) for owner, _ in self._rrsets):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        if name.is_subdomain(self._soa.name):
            reply.authority.append(self._soa)
        return reply
