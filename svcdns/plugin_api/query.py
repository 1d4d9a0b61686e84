"""A question on its way through the chain, and what the chain may ask of the server.

One `Query` is made per packet that the answer table does not know. A plugin that changes the question makes a copy
(`changed`), so that what is further up still sees what was asked. The header flags and the EDNS are changed in place: the core
makes its own replies from them, and mirrors the EDNS as the chain left it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from svcdns.plugin_api.reply import Reply
from svcdns.wire import names
from svcdns.wire.codes import CD, RD
from svcdns.wire.record import Edns

Answer = Reply | Awaitable[Reply]
"""What a handler returns: a reply at once, or something to await that becomes one."""

Ask = Callable[["Query"], Answer]

Observer = Callable[["Query", Reply, int, float], None]
"""Called for every answered query of a block: query, reply, octets of the reply, seconds it took."""


class Client(msgspec.Struct, frozen=True, gc=False):
    """Who asked, and where. `protocol` is `udp` or `tcp`; `family` is 1 for IPv4, 2 for IPv6, as metrics label it."""

    address: str
    port: int
    local_address: str
    local_port: int
    protocol: str
    family: int = 1


class Query(msgspec.Struct):
    """A question with its header, its EDNS and its client.

    `name` is the query name as it was spelled, `key` the same lowered; both wire bytes. `flags` is the header word of the
    request, `serial` the zone serial that an IXFR request names, None where it names none. `zone` is the server-block zone that
    matched, lowered wire bytes; `server` the server label of metrics (`dns://:53`). `size` is the request's length in octets.
    `depth` counts self-queries that led here. `avoid` is an upstream that is not to be asked, as `Reply.source` names it.
    `upstream_reply` is what the upstreams have replied already, where the question comes from the short way (`chain.fast_path`).
    """

    name: bytes
    key: bytes
    rtype: int
    rclass: int
    flags: int
    edns: Edns | None
    client: Client
    ask_server: Ask
    ident: int = 0
    size: int = 0
    zone: bytes = names.ROOT
    server: str = ""
    view: str = ""
    depth: int = 0
    started: float = 0.0
    serial: int | None = None
    avoid: str = ""
    upstream_reply: Reply | None = None

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
        return msgspec.structs.replace(self, **fields)

    def ask(self, name: bytes, rtype: int) -> Answer:
        """Puts another question through the whole server as the same client, class IN, at most MAX_DEPTH levels deep.

        The asking reply has to join the reuse terms of what comes back (`chain.handler.joined`).
        """
        return self.ask_server(self.changed(name=name, key=name.lower(), rtype=rtype, rclass=1, depth=self.depth + 1, upstream_reply=None))


MAX_DEPTH = 8
"""Levels of self-queries; the ninth is answered SERVFAIL."""
