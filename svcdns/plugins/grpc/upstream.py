"""Queries to one gRPC server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from svcdns.errors import SvcdnsError
from svcdns.plugins.grpc.metrics import DURATION, REQUESTS, RESPONSES
from svcdns.plugins.grpc.options import Upstream
from svcdns.telemetry.counters import Counters
from svcdns.tls.contexts import client_context
from svcdns.tls.material import Material
from svcdns.upstream import dns_packet
from svcdns.upstream.query import Dropped, Received, UpstreamQuery, as_message
from svcdns.wire.codes import QR, Rcode, rcode_label
from svcdns.wire.errors import FormError
from svcdns.wire.message import Message, parse_message
from svcdns.wire.protobuf import ProtobufError

if TYPE_CHECKING:
    from svcdns.upstream.grpc_calls import GrpcCalls

NOT_FOUND: Final = 5
"""The status of a call for which CoreDNS answers that the name does not exist."""
DRAIN: Final = 10.0
"""The seconds after which a replaced connection is closed."""
_IDENT: Final = 0


class QueryError(SvcdnsError):
    """Raised if there is no reply. The text is the reason."""


class GrpcUpstream:
    """A gRPC server, and the connection to it. The library for gRPC is imported at the first query."""

    def __init__(self, upstream: Upstream, server_name: str, counters: Counters, clock: Callable[[], float]) -> None:
        """The server's certificate must be valid for `server_name`; if that is empty, for the server's address."""
        self.label = upstream.label
        self._upstream, self._server_name, self._counters, self._clock = upstream, server_name, counters, clock
        self._material: Material | None = None
        self._channel: GrpcCalls | None = None

    def use(self, material: Material | None) -> None:
        """Uses these certificates for new connections; None means no TLS."""
        if material != self._material:
            self._material = material
            if self._channel is not None:
                asyncio.get_running_loop().call_later(DRAIN, self._channel.close)
                self._channel = None

    def stop(self) -> None:
        """Closes the connection. Called when the upstream is not in use any more."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    async def ask(self, query: UpstreamQuery, timeout: float) -> Message | None:
        """Returns the reply to a query, or None if the server sent another message.

        Raises QueryError, also if there is no reply within `timeout` seconds.
        """
        from svcdns.upstream.grpc_calls import GrpcCallError

        started = self._clock()
        packet = dns_packet.to_packet(query.packet(_IDENT))
        try:
            answer = dns_packet.from_packet(await self._open_channel().call(packet, timeout))
            reply = _reply(query, answer)
        except GrpcCallError as error:
            if error.status == NOT_FOUND:
                return Message(0, QR | Rcode.NXDOMAIN, query.name, query.rtype, query.rclass)
            raise QueryError(f"{self.label}: {error}") from error
        except (ProtobufError, FormError) as error:
            raise QueryError(f"{self.label}: {error}") from error
        if reply is not None:
            self._count(reply.rcode, self._clock() - started)
        return reply

    def _open_channel(self) -> GrpcCalls:
        if self._channel is None:
            from svcdns.upstream.grpc_calls import GrpcCalls

            context = None if self._material is None else client_context(self._material)
            one = self._upstream
            self._channel = GrpcCalls(
                dns_packet.METHOD,
                one.host,
                one.port,
                dns_packet.MAX_PACKET,
                path=one.socket,
                context=context,
                server_name=self._server_name,
            )
        return self._channel

    def _count(self, rcode: int, seconds: float) -> None:
        self._counters.count(REQUESTS, self.label)
        self._counters.count(RESPONSES, rcode_label(rcode), self.label)
        self._counters.observe(DURATION, self._counters.cell(DURATION, self.label), seconds)


def _reply(query: UpstreamQuery, answer: bytes) -> Message | None:
    """Returns the reply in a DNS message; None if it belongs to another query. Raises FormError.

    The message id is not compared: the reply came on the stream of the query.
    """
    found: Received | Dropped = query.read(_IDENT, _IDENT.to_bytes(2, "big") + answer[2:])
    if not isinstance(found, Dropped):
        return as_message(found)
    parse_message(answer)
    if found is Dropped.MALFORMED:
        raise FormError("the reply is malformed")
    return None
