"""DNS over HTTPS with HTTP/1.1 (RFC 9112): one request at a time on a connection. The library h11 parses requests."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import h11

from svcdns.plugin_api.query import Client
from svcdns.serving.transport import doh
from svcdns.serving.transport.encrypted import Endpoint
from svcdns.serving.transport.stream_connection import StreamConnection
from svcdns.wire.message import MAX_MESSAGE

MAX_HEAD: Final = 16 << 10
"""The most octets of the request line and the header together."""
_REASONS: Final = {200: b"OK", 400: b"Bad Request", 404: b"Not Found", 500: b"Internal Server Error"}


@lru_cache(maxsize=256)
def _head(status: int, length: int, max_age: int, date: bytes, *, ends: bool) -> h11.Response:
    """Returns the head of a response. Heads are cached, because many replies have the same length and TTL."""
    fields = doh.fields_at(status, length, max_age, date)
    if ends:
        fields.append((b"connection", b"close"))
    return h11.Response(status_code=status, headers=fields, reason=_REASONS[status])


class Http1Connection(StreamConnection):
    """A connection of a client that uses HTTP/1.1."""

    def __init__(self, endpoint: Endpoint, proxied: Client | None) -> None:
        """The parameters are those of `StreamConnection`."""
        super().__init__(endpoint, proxied)
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._octets = False
        """True if octets of the next request have arrived."""
        self._looping = False

    @property
    def unfinished(self) -> bool:
        """Returns True if a request has arrived in part."""
        return not self.in_flight and (self._request is not None or self._octets)

    @property
    def kept(self) -> int:
        """Returns the octets of a body that has arrived in part."""
        return len(self._body)

    def decode(self, data: bytes) -> None:
        """Decodes octets of the client, and answers the next complete request."""
        self._octets = True
        self._http.receive_data(data)
        self._run()

    def _run(self) -> None:
        self._looping = True
        try:
            self._next()
        except h11.RemoteProtocolError:
            self._refuse_octets()
        finally:
            self._looping = False

    def _next(self) -> None:
        """Reads events until a request is complete or more octets are needed."""
        while not self.in_flight and not self.ended:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self._begin(event)
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > MAX_MESSAGE:
                    self._refuse(doh.BAD_REQUEST)
            elif isinstance(event, h11.EndOfMessage):
                self._complete()
            else:
                if event is h11.NEED_DATA:
                    self._octets = self._request is not None or bool(self._http.trailing_data[0])
                    self._continue()
                return

    def _begin(self, request: h11.Request) -> None:
        self._request = request
        self._body.clear()
        status = doh.refusal(request.method, request.target)
        length = next((value for name, value in request.headers if name == b"content-length"), b"0")
        if not status and int(length) > MAX_MESSAGE:
            status = doh.BAD_REQUEST
        if status:
            self._refuse(status)

    def _continue(self) -> None:
        if self._http.they_are_waiting_for_100_continue:
            self.write(
                self._http.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")) or b""
            )

    def _complete(self) -> None:
        request, self._request = self._request, None
        self._octets = False
        assert request is not None
        packet = doh.packet_of(request.target) if request.method == b"GET" else bytes(self._body)
        self._body.clear()
        self.started()
        if packet is None:
            self._respond(doh.BAD_REQUEST, doh.TEXTS[doh.BAD_REQUEST], 0)
            return
        assert self.peer is not None
        fields = doh.trace_fields(self.endpoint, request.headers)
        doh.ask(self.endpoint, packet, self.peer, self._respond, fields)

    def _refuse(self, status: int) -> None:
        """Answers a request before its body has arrived. The connection is closed unless the request is complete."""
        self.started()
        self._request = None
        self._octets = False
        self._body.clear()
        if self._http.their_state is h11.SEND_BODY and not isinstance(self._http.next_event(), h11.EndOfMessage):
            self.finishing = True
        self._respond(status, doh.TEXTS[status], 0)

    def _refuse_octets(self) -> None:
        """Answers octets that are not a request, and closes the connection."""
        if not self.in_flight and self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.finishing = True
            self.started()
            self._respond(doh.BAD_REQUEST, doh.TEXTS[doh.BAD_REQUEST], 0)
        else:
            self._transport.abort()

    def _respond(self, status: int, body: bytes, max_age: int) -> None:
        if self.ended:
            self.in_flight -= 1
            return
        self.endpoint.counters.count(doh.HTTPS_RESPONSES, self.endpoint.server, str(status))
        http, self.finishing = self._http, self.finishing or self.closing
        head = _head(status, len(body), max_age, doh.date(), ends=self.finishing)
        self.write(b"".join(http.send(event) or b"" for event in (head, h11.Data(data=body), h11.EndOfMessage())))
        if http.our_state is h11.DONE and http.their_state is h11.DONE and not self.finishing:
            http.start_next_cycle()
        else:
            self.finishing = True
        self.replied()
        if not (self._looping or self.ended):
            self._run()
