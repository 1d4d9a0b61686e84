"""QUIC connections in memory: a client and a server whose datagrams a test passes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import QuicEvent, StreamDataReceived

from svcdns.quic.configuration import client_configuration, server_configuration
from svcdns.quic.connection import BoundedConnection
from svcdns.tls.material import Material
from tests.support.certificates import Authority

NAME = "dns.test"
CLIENT, SERVER = ("192.0.2.1", 1024), ("192.0.2.2", 853)


@cache
def authority() -> Authority:
    return Authority()


@cache
def material() -> Material:
    """Returns a certificate for NAME and 127.0.0.1, with the authority that signed it."""
    pair = authority().pair(NAME, "127.0.0.1")
    return Material(pair.certificate, pair.key, authority().pem)


def client_side(alpn: str = "doq") -> QuicConfiguration:
    """Returns the configuration of a client that trusts `material()`."""
    return client_configuration(Material(authorities=authority().pem), alpn, 10.0, NAME)


@dataclass
class Pair:
    """A client of aioquic without limits of ours, a bounded server connection, and what each of them has received."""

    client: QuicConnection
    server: BoundedConnection
    now: float = 1.0
    client_events: list[QuicEvent] = field(default_factory=list)
    server_events: list[QuicEvent] = field(default_factory=list)

    def pass_on(self, rounds: int = 6) -> None:
        """Passes datagrams between the sides until neither has more to send, for at most `rounds` rounds."""
        for _ in range(rounds):
            sent = self.to_server() + self.to_client()
            if not sent:
                return

    def to_server(self) -> int:
        """Passes the client's datagrams to the server, and returns their number."""
        return self._pass(self.client, self.server, CLIENT, self.server_events)

    def to_client(self) -> int:
        """Passes the server's datagrams to the client, and returns their number."""
        return self._pass(self.server, self.client, SERVER, self.client_events)

    def _pass(self, source: QuicConnection, target: QuicConnection, address: Any, events: list[QuicEvent]) -> int:
        self.now += 0.01
        datagrams = source.datagrams_to_send(self.now) if source._network_paths else []
        for datagram, _ in datagrams:
            target.receive_datagram(datagram, address, self.now)
        while (event := target.next_event()) is not None:
            events.append(event)
        return len(datagrams)

    @property
    def received(self) -> dict[int, bytes]:
        """Returns the data that the server has received, by stream."""
        return _data(self.server_events)

    @property
    def replies(self) -> dict[int, bytes]:
        """Returns the data that the client has received, by stream."""
        return _data(self.client_events)


def _data(events: list[QuicEvent]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for event in events:
        if isinstance(event, StreamDataReceived):
            found[event.stream_id] = found.get(event.stream_id, b"") + event.data
    return found


def connect(*, max_streams: int = 16, max_uni_streams: int = 4) -> Pair:
    """Returns a client and a server after their handshake."""
    client = QuicConnection(configuration=client_side())
    client.connect(SERVER, 1.0)
    server = BoundedConnection(
        server_configuration(material(), "doq", 10.0),
        max_streams=max_streams,
        max_uni_streams=max_uni_streams,
        original_destination_connection_id=client.original_destination_connection_id,
    )
    pair = Pair(client, server)
    pair.pass_on()
    return pair
