"""The `grpc` plugin: sends queries to other servers over gRPC, and returns their replies.

The plugin never stores replies; *cache* does. The rules are those of docs/behaviour/plugins.md#grpc.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.plugin_api.settings import Settings
from svcdns.plugins.grpc import files
from svcdns.plugins.grpc.options import File, Options, Upstream
from svcdns.plugins.grpc.upstream import GrpcUpstream, QueryError
from svcdns.upstream.query import UpstreamQuery
from svcdns.upstream.relevance import remove_unrelated_records
from svcdns.wire import names
from svcdns.wire.codes import AA, AD, CD, RA, RD, TC, Rcode
from svcdns.wire.edns import without_nsid
from svcdns.wire.message import Message

BUDGET: Final = 5.0
"""The longest time for a query, in seconds, as in CoreDNS."""
ATTEMPT: Final = 2.0
"""The longest time for an upstream in seconds. The last upstream has the rest of BUDGET."""
MAX_IN_FLIGHT: Final = 2000
"""The most queries that wait for replies. Further queries get SERVFAIL."""
NO_HEALTHY: Final = "no healthy gRPC proxies"


class Grpc(Plugin):
    """The upstreams of a block."""

    name = "grpc"

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with a warning for each word of the Corefile that has no effect."""
        return Settings(warnings=options.warnings)

    def __init__(self, options: Options, environment: Environment) -> None:
        """Makes the upstreams. After a reload, the same upstreams keep their connections."""
        self.options, self._environment = options, environment
        self._zone = names.from_text(options.zone).lower()
        self._excepted = [names.from_text(zone).lower() for zone in options.excepted]
        self._fallthrough = [names.from_text(zone).lower() for zone in options.fallthrough]
        self._in_order = _policy(options.policy)
        self._in_flight = 0
        self._upstreams = [self._upstream(one) for one in self._targets()]
        self._use_certificates(environment.data(self.name, options.tls_key) if options.tls_key else None)
        if options.tls_key:
            environment.on_data(self.name, options.tls_key, self._use_certificates)

    def _targets(self) -> list[Upstream]:
        out: list[Upstream] = []
        for one in self.options.upstreams:
            if isinstance(one, File):
                payload = self._environment.data(self.name, one.key)
                out += files.servers(payload) if payload else []
            else:
                out.append(one)
        return list(dict.fromkeys(out))

    def _upstream(self, target: Upstream) -> GrpcUpstream:
        options, environment = self.options, self._environment
        key = (self.name, target, options.tls_key, options.server_name)
        make = partial(GrpcUpstream, target, options.server_name, environment.counters, environment.clock)
        kept: GrpcUpstream = environment.kept(key, make)
        return kept

    def _use_certificates(self, payload: bytes | None) -> None:
        for upstream in self._upstreams:
            upstream.use(files.material(payload) if payload else None)

    def _covers(self, key: bytes) -> bool:
        if not names.is_within(key, self._zone):
            return False
        return key == self._zone or not any(names.is_within(key, zone) for zone in self._excepted)

    def handle(self, query: Query, following: Following) -> Answer:
        """Sends the query to the upstreams if FROM covers its name. Otherwise, the next plugin answers."""
        if not self._covers(query.key):
            return following(query)
        if self._in_flight >= MAX_IN_FLIGHT:
            return rcode_only(Rcode.SERVFAIL, "plugin/grpc: too many queries wait for replies")
        return self._answer(query, following)

    async def _answer(self, query: Query, following: Following) -> Reply:
        may_fall_through = any(names.is_within(query.key, zone) for zone in self._fallthrough) and self._has_next()
        self._in_flight += 1
        try:
            message = await self._exchange(query)
        except QueryError as error:
            if may_fall_through:
                return await following(query)
            return rcode_only(Rcode.SERVFAIL, f"plugin/grpc: {error}")
        finally:
            self._in_flight -= 1
        if message is None:
            return rcode_only(Rcode.FORMERR)
        if message.rcode == Rcode.NXDOMAIN and may_fall_through:
            return await following(query)
        return _as_reply(message)

    def _has_next(self) -> bool:
        plugins = self._environment.peers("")
        return bool(plugins) and plugins[-1] is not self

    async def _exchange(self, query: Query) -> Message | None:
        """Returns the first reply of an upstream; None if the reply belongs to another query. Raises QueryError."""
        edns = without_nsid(query.edns) if query.edns is not None and query.edns.options else query.edns
        asked = UpstreamQuery(query.name, query.rtype, query.rclass, query.flags & (RD | AD | CD), edns)
        loop = asyncio.get_running_loop()
        deadline, last = loop.time() + BUDGET, QueryError(NO_HEALTHY)
        upstreams = self._in_order(self._upstreams)
        for number, upstream in enumerate(upstreams, 1):
            left = deadline - loop.time()
            if left <= 0:
                break
            span = None if query.span is None else query.span.child("connect", {"peer.address": upstream.label})
            try:
                message = await upstream.ask(asked, left if number == len(upstreams) else min(left, ATTEMPT))
            except QueryError as error:
                last = error
                continue
            finally:
                if span is not None:
                    span.end()
            if message is not None:
                remove_unrelated_records(message, query.key)
            return message
        raise last


def _as_reply(message: Message) -> Reply:
    return Reply(
        rcode=message.rcode,
        flags=message.flags & (AA | TC | RD | RA | AD | CD),
        answer=message.answer,
        authority=message.authority,
        additional=message.additional,
        edns=None if message.edns is None else without_nsid(message.edns),
    )


def _policy(name: str) -> Callable[[Sequence[GrpcUpstream]], list[GrpcUpstream]]:
    """Returns the function that puts upstreams into the order of a policy."""
    start = 0

    def round_robin(upstreams: Sequence[GrpcUpstream]) -> list[GrpcUpstream]:
        nonlocal start
        start = (start + 1) % max(1, len(upstreams))
        return [upstreams[start], *upstreams[:start], *upstreams[start + 1 :]] if upstreams else []

    def shuffled(upstreams: Sequence[GrpcUpstream]) -> list[GrpcUpstream]:
        return random.sample(upstreams, len(upstreams))

    policies: dict[str, Callable[[Sequence[GrpcUpstream]], list[GrpcUpstream]]] = {
        "random": shuffled,
        "round_robin": round_robin,
        "sequential": list,
    }
    return policies[name]
