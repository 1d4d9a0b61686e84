"""A query on its way through the chain, and what the chain may ask of the server.

One `Query` is made for each packet that the answer table has no reply for. A plugin that changes the question makes a
copy (`changed`), so that plugins further out still see what was asked. The header flags and the EDNS are changed in
place: the core makes its own replies from them, and mirrors the EDNS as the chain left it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.reply import CacheScope, Reply
from svcdns.plugin_api.reuse import NO_ANSWER, Invocation, running
from svcdns.wire import names
from svcdns.wire.codes import CD, RD
from svcdns.wire.record import Edns

Answer = Reply | Awaitable[Reply]
"""What a handler returns: a reply at once, or something to await that becomes one."""

Ask = Callable[["Query"], Answer]

Observer = Callable[["Query", Reply, int, float], None]
"""Called for every answered query of a block: query, reply, octets of the reply, seconds it took."""


class Client(msgspec.Struct, frozen=True, gc=False):
    """Who sent the query, and to which address. `protocol` is `udp` or `tcp`; `family` is 1 for IPv4, 2 for IPv6, as
    metrics label it.
    """

    address: str
    port: int
    local_address: str
    local_port: int
    protocol: str
    family: int = 1


class _ClassifiedClient:
    """The client for a plugin with client classes: its address gives the reply the scope of a class, everything else
    that of a client.
    """

    __slots__ = ("_client", "_invocation")

    def __init__(self, client: Client, invocation: Invocation) -> None:
        self._client, self._invocation = client, invocation

    @property
    def address(self) -> str:
        self._invocation.read(CacheScope.CLIENT_CLASS)
        return self._client.address

    @property
    def family(self) -> int:
        self._invocation.read(CacheScope.CLIENT_CLASS)
        return self._client.family

    def __getattr__(self, name: str) -> object:
        self._invocation.read(CacheScope.CLIENT)
        return getattr(self._client, name)


_NAMES: Final = {"client": "requestor", "server": "listener", "ident": "message_id"}
"""Fields of a query that plugins read by a property, which notes that they did."""


class Query(msgspec.Struct):
    """A DNS query: its question with the header, the EDNS and the client.

    `name` is the query name as it was spelled, `key` the same lowered; both wire bytes. `flags` is the header word of
    the request, `serial` the zone serial that an IXFR request names, None where it names none. `zone` is the
    server-block zone that matched, lowered wire bytes. `size` is the request's length in octets. `depth` counts
    self-queries that led here. `avoid` is an upstream that is not to be queried, as `Reply.source` names it.
    `upstream_reply` is what an upstream has replied already, where the query comes from the fast path.

    `requestor`, `listener` and `message_id` are for the core. Plugins read `client`, `server` and `ident`: a reply for
    which a plugin read one of these is not given to other clients, unless the plugin has client classes and read the
    address alone.
    """

    name: bytes
    key: bytes
    rtype: int
    rclass: int
    flags: int
    edns: Edns | None
    requestor: Client
    ask_server: Ask
    message_id: int = 0
    size: int = 0
    zone: bytes = names.ROOT
    listener: str = ""
    view: str = ""
    depth: int = 0
    started: float = 0.0
    serial: int | None = None
    avoid: str = ""
    upstream_reply: Reply | None = None

    @property
    def client(self) -> Client:
        """Who sent the query, over which transport, and to which address."""
        current = running.current
        if current.states_reuse:
            return self.requestor
        if current.address_scope is CacheScope.CLIENT_CLASS:
            return _ClassifiedClient(self.requestor, current.begin())  # type: ignore[return-value]
        current.read(CacheScope.CLIENT)
        return self.requestor

    @property
    def server(self) -> str:
        """The listener that the query came to, as the server label of metrics (`dns://:53`)."""
        running.current.read(CacheScope.CLIENT)
        return self.listener

    @property
    def ident(self) -> int:
        """The id in the query's header."""
        running.current.read(CacheScope.CLIENT)
        return self.message_id

    @property
    def opcode(self) -> int:
        """The kind of query, RFC 1035 §4.1.1."""
        return self.flags >> 11 & 15

    @property
    def reply_flags(self) -> int:
        """RD and CD as a reply copies them: for opcode QUERY alone."""
        return self.flags & (RD | CD) if not self.flags & 0x7800 else 0

    @property
    def dnssec_ok(self) -> bool:
        """The DO bit, RFC 3225."""
        return self.edns is not None and self.edns.dnssec_ok

    def changed(self, **fields: object) -> Query:
        """A copy with other field values; `key` follows `name`."""
        if "name" in fields and "key" not in fields:
            fields["key"] = fields["name"].lower()  # type: ignore[attr-defined]
        return msgspec.structs.replace(self, **{_NAMES.get(name, name): value for name, value in fields.items()})

    def ask(self, name: bytes, rtype: int) -> Answer:
        """Sends another query through the whole server as the same client, class IN, at most MAX_DEPTH levels deep.

        The terms on which its reply may be used again become terms of the reply that the calling plugin returns.
        """
        query = msgspec.structs.replace(
            self, name=name, key=name.lower(), rtype=rtype, rclass=1, depth=self.depth + 1, upstream_reply=None
        )
        asked = running.current.begin().asked
        last, running.last = running.last, NO_ANSWER
        answer = self.ask_server(query)
        running.last = last
        if isinstance(answer, Reply):
            asked.append(answer)
            return answer

        def note(reply: Reply) -> Reply:
            asked.append(reply)
            return reply

        if isinstance(answer, Deferred):
            answer.then(note)
            return answer
        return _noted(answer, note)


async def _noted(answer: Awaitable[Reply], note: Callable[[Reply], Reply]) -> Reply:
    return note(await answer)


MAX_DEPTH = 8
"""Levels of self-queries; the ninth is answered SERVFAIL."""
