"""A query on its way through the plugin chain.

The core makes one `Query` for each packet without a stored reply. A plugin that changes the question makes a copy
(`changed`). Header flags and EDNS are changed in place: the core makes those of the reply from them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.metadata import Metadata
from svcdns.plugin_api.reply import CacheScope, Reply
from svcdns.plugin_api.reuse import NO_ANSWER, Invocation, running
from svcdns.plugin_api.tracing import Span
from svcdns.plugin_api.visibility import Visibility
from svcdns.wire import names
from svcdns.wire.codes import CD, RD
from svcdns.wire.record import Edns

Answer = Reply | Awaitable[Reply]
"""What a handler returns: a reply, or an awaitable for a reply."""

Ask = Callable[["Query"], Answer]

Observer = Callable[["Query", Reply, int, float], None]
"""Called for every answered query of a block.

The arguments are the query, the reply, the length of the reply in octets, and the seconds since the packet was read.
"""


class Client(msgspec.Struct, frozen=True, gc=False):
    """The client that sent a query, and the address that the query was sent to.

    `protocol` is `udp` or `tcp`. `family` is 1 for IPv4 and 2 for IPv6, as in the labels of metrics.
    """

    address: str
    port: int
    local_address: str
    local_port: int
    protocol: str
    family: int = 1


PacketObserver = Callable[[bytes, bytes, Client, float], None]
"""Called in place of an `Observer`, for a reply that was made without the plugin chain.

The arguments are the packet of the query, the packet of the reply, the client, and the seconds since the packet was
read.
"""


class _ClassifiedClient:
    """The client, in the form that a plugin with client classes gets.

    If the plugin reads the address, its reply is for clients of the same class. If the plugin reads any other field,
    its reply is for this client only.
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
"""Maps each property that records its reads, such as `client`, to the field with the value."""


class Query(msgspec.Struct):
    """A DNS query: its question, with the header, the EDNS and the client.

    - `name` is the query name in the client's spelling, and `key` the same name in lower case, both in wire format.
    - `flags` is the second word of the header, with opcode and flags.
    - `serial` is the zone serial in an IXFR query, else None.
    - `zone` is the zone of the server block that matched, in wire format and lower case.
    - `size` is the length of the query in octets.
    - `depth` is the number of nested self-queries (queries of plugins to this server) that led to this query.
    - `avoid` is an upstream that must not be queried, in the form of `Reply.source`.
    - `upstream_reply` is the reply of an upstream, if the fast path has received one.
    - `edns_added` is True if a plugin added the OPT record.
    - `tsig_error` is None for a query without a signature, or outside of the zones of *tsig*. Otherwise it is 0,
      or the TSIG error of an invalid signature (RFC 8945 §5.2). The reply to a signed query is never reused.
    - `check_cookie` returns whether the query's server cookie is valid. The field is None for a query without a cookie.
    - `requestor`, `listener` and `message_id` are for the core.

    If a plugin reads `client`, `server` or `ident`, its reply is not reused for other clients. If a plugin with client
    classes reads only the client's address, its reply may be reused for clients of the same class.
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
    edns_added: bool = False
    visibility: Visibility | None = None
    """What the client may see of the cluster; None for everything. See `svcdns.plugin_api.visibility`."""
    check_cookie: Callable[[], bool] | None = None
    tsig_error: int | None = None
    collected: Metadata | None = None
    """The metadata of the query; None if the server block has none. Plugins call `metadata` instead."""
    span: Span | None = None
    """The span of the plugin that handles the query now; None if the query is not traced (plugin *trace*)."""

    @property
    def client(self) -> Client:
        """Returns the client that sent the query, the transport, and the address that the query was sent to."""
        current = running.current
        if current.states_reuse:
            return self.requestor
        if current.address_scope is CacheScope.CLIENT_CLASS:
            return _ClassifiedClient(self.requestor, current.begin())  # type: ignore[return-value]
        current.read(CacheScope.CLIENT)
        return self.requestor

    @property
    def server(self) -> str:
        """Returns the server label of the listener that received the query, as in metrics (`dns://:53`)."""
        running.current.read(CacheScope.CLIENT)
        return self.listener

    @property
    def ident(self) -> int:
        """Returns the message id in the header of the query."""
        running.current.read(CacheScope.CLIENT)
        return self.message_id

    def metadata(self, label: str) -> str:
        """Returns the metadata under a label such as `geoip/country/code`; empty if there is none.

        A reply for which a plugin reads metadata is not given to other clients.
        """
        if self.collected is None:
            return ""
        running.current.read(CacheScope.CLIENT)
        return self.collected.value(label)

    @property
    def cluster_scope(self) -> CacheScope:
        """Returns the clients that may get a reply again that is made from cluster data.

        See `svcdns.plugin_api.visibility`.
        """
        return CacheScope.SHARED if self.visibility is None else CacheScope.CLIENT_CLASS

    @property
    def has_valid_cookie(self) -> bool:
        """Returns True if the query has a DNS cookie that a server with this server's secret gave to this client (RFC
        7873).

        In that case, the client's address is not forged.
        """
        running.current.read(CacheScope.CLIENT)
        return self.check_cookie is not None and self.check_cookie()

    @property
    def opcode(self) -> int:
        """Returns the opcode (RFC 1035 §4.1.1)."""
        return self.flags >> 11 & 15

    @property
    def reply_flags(self) -> int:
        """Returns the flags RD and CD of the query, which the reply copies. Returns 0 if the opcode is not QUERY."""
        return self.flags & (RD | CD) if not self.flags & 0x7800 else 0

    @property
    def dnssec_ok(self) -> bool:
        """Returns the DO bit (RFC 3225)."""
        return self.edns is not None and self.edns.dnssec_ok

    def changed(self, **fields: object) -> Query:
        """Returns a copy with other field values. If `name` changes, `key` changes too."""
        if "name" in fields and "key" not in fields:
            fields["key"] = fields["name"].lower()  # type: ignore[attr-defined]
        return msgspec.structs.replace(self, **{_NAMES.get(name, name): value for name, value in fields.items()})

    def ask(self, name: bytes, rtype: int) -> Answer:
        """Sends another query of class IN through the whole server, as the same client, and returns the answer.

        Queries may be nested up to MAX_DEPTH levels. The reuse terms of the reply (clients, lifetime, dependencies)
        also apply to the plugin's own reply.
        """
        query = msgspec.structs.replace(
            self,
            name=name,
            key=name.lower(),
            rtype=rtype,
            rclass=1,
            depth=self.depth + 1,
            upstream_reply=None,
            visibility=None,  # the block that answers may have other rules, or none
            collected=None,
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
"""The most levels of nested self-queries; a query at the next level gets SERVFAIL."""
