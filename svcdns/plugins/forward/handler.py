"""The `forward` plugin: sends queries to other servers, and returns their replies (docs/behaviour/plugins.md#forward).

The plugin never stores replies; `cache` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.fast_path import FastPath, FastPathQuery, UpstreamReply
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.settings import Settings
from svcdns.plugin_api.tap import UpstreamTap
from svcdns.plugin_api.tracing import Span
from svcdns.plugins.forward.exchange import Exchange, ExchangeKey
from svcdns.plugins.forward.group_builder import GroupBuilder
from svcdns.plugins.forward.leak_guard import LeakGuard
from svcdns.plugins.forward.metrics import Cells
from svcdns.plugins.forward.options import Options, Rule
from svcdns.plugins.forward.single_flight import SingleFlight
from svcdns.wire import names
from svcdns.wire.codes import AD, CD, RD, Rcode
from svcdns.wire.edns import without_nsid


class Forward(Plugin):
    """The forward rules of a block."""

    name = "forward"
    offers = ("is_down",)
    states_reuse = True

    def __init__(self, options: Options, environment: Environment) -> None:
        """Makes the rules. After a reload, the rules use the Server objects of the previous configuration again."""
        self._rules = [_ForwardRule(rule, environment) for rule in options.rules]
        self._peers = environment.peers

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings that pass queries of every class to the plugin chain, and warn about words that have no
        effect.
        """
        return Settings(any_class=True, warnings=options.warnings)

    def start(self) -> None:
        """Passes the queries to upstreams to the taps of the block's *dnstap* plugins."""
        taps = [tap for peer in self._peers("dnstap") for tap in peer.upstream_taps()]
        for rule in self._rules if taps else ():
            rule.tap(taps)

    def answers_like(self, previous: Plugin) -> bool:  # noqa: ARG002
        """Returns True: stored replies of upstreams expire by their TTLs, as in *cache*."""
        return True

    def handle(self, query: Query, following: Following) -> Answer:
        """Sends the query to the upstreams of the first rule that covers its name.

        Without such a rule, the next plugin answers.
        """
        if query.upstream_reply is not None:
            return query.upstream_reply
        return self._answer_from(0, query, following)

    def _answer_from(self, number: int, query: Query, following: Following) -> Answer:
        """Returns the answer of the first rule, from the index `number` on, that covers the query name."""
        for at, rule in enumerate(self._rules[number:], number):
            if rule.covers(query.key):
                answer: Answer = rule.guard.stopped(query) or rule.answer(query)
                is_last = at + 1 == len(self._rules)
                return answer if is_last or not rule.has_next else self._or_next(answer, at, query, following)
        return following(query)

    def join_fast_path(self, fast_path: FastPath) -> bool:
        """Lets the first rule send the queries of the fast path (forwarding without the plugin chain), and returns
        True.

        Returns False if the first rule does not cover every name, or has the option `next` or `next_on_nodata`.
        """
        fast_path.forwards = True
        rule = self._rules[0]
        if rule.has_next or not rule.covers_all:
            return False
        fast_path.zones += rule.guard.zones
        fast_path.ask = rule.try_fast_path_noted if rule.guard.notes else rule.try_fast_path
        return True

    def is_down(self, key: bytes) -> bool:
        """Returns True if all upstreams of the first rule that covers the lower-case name are down.

        Called by `cache`.
        """
        rule = next((rule for rule in self._rules if rule.covers(key)), None)
        return rule is not None and rule.is_down

    async def _or_next(self, answer: Answer, at: int, query: Query, following: Following) -> Reply:
        """Returns the reply of the rule at index `at`.

        If the options of this rule require it, returns the reply of a later rule.
        """
        reply = answer if isinstance(answer, Reply) else await answer
        if not self._rules[at].asks_for_next(reply):
            return reply
        answer = self._answer_from(at + 1, query, following)
        return answer if isinstance(answer, Reply) else await answer


class _ForwardRule:
    """One forward rule: the names that it covers, and its upstreams."""

    def __init__(self, rule: Rule, environment: Environment) -> None:
        self._rule = rule
        self.guard = LeakGuard(rule, environment)
        self.has_next = bool(rule.next) or rule.next_on_nodata
        """True if for some replies of this rule the next rule answers instead (options `next`, `next_on_nodata`)."""
        self._zone = names.from_text(rule.zone).lower()
        self._excepted = tuple(names.from_text(zone).lower() for zone in rule.excepted)
        cells = Cells(environment.counters)
        self._upstreams = GroupBuilder(rule, environment, cells)
        self._single_flight = SingleFlight(rule.max_concurrent, cells)

    def tap(self, taps: Sequence[UpstreamTap]) -> None:
        from svcdns.plugins.forward.tapped_exchange import tap  # only blocks with *dnstap* need it

        tap(self._single_flight, taps, self._zone)

    @property
    def covers_all(self) -> bool:
        return self._zone == names.ROOT and not self._excepted

    def covers(self, key: bytes) -> bool:
        if not names.is_within(key, self._zone):
            return False
        if not self._excepted or key == self._zone:
            return True
        return not any(names.is_within(key, zone) for zone in self._excepted)

    @property
    def is_down(self) -> bool:
        return self._upstreams.group.is_down

    def asks_for_next(self, reply: Reply) -> bool:
        """Returns True if the options `next` and `next_on_nodata` require that the next rule answers instead.

        Returns False if the reply did not come from an upstream.
        """
        empty = self._rule.next_on_nodata and reply.rcode == Rcode.NOERROR and not reply.answer
        return reply.has_message and (empty or reply.rcode in self._rule.next)

    def answer(self, query: Query) -> Answer:
        """Sends the query to the upstreams, and returns their reply."""
        tcp = self._rule.force_tcp or (query.client.protocol == "tcp" and not self._rule.prefer_udp)
        flags = query.flags & (RD | AD | CD)
        edns = without_nsid(query.edns) if query.edns is not None and query.edns.options else query.edns
        key = (query.key, query.rtype, query.rclass, flags, edns, tcp, query.avoid, query.edns_added)
        deferred = Deferred()
        if query.span is not None:
            return self._answer_traced(query, query.span, key, deferred)
        refused = self._single_flight.join(
            self._upstreams.group, key, query, query.client.address, lambda completed: deferred.set(completed.reply)
        )
        return refused or deferred

    def _answer_traced(self, query: Query, span: Span, key: ExchangeKey, deferred: Deferred) -> Answer:
        """Sends a traced query to the upstreams. Each query to an upstream gets a span.

        If the query joins a running exchange, it gets one span, for the upstream that replies.
        """
        from svcdns.plugins.forward.traced_exchange import NAME, TracedExchange, tags

        joined = True

        def make(*values: Any) -> Exchange:
            nonlocal joined
            joined = False
            exchange = TracedExchange(*values)
            exchange.span = span
            return exchange

        waiting = span.child(NAME)

        def completed(exchange: UpstreamReply) -> None:
            if joined:
                waiting.tags = tags(exchange.reply.source)
                waiting.end()
            deferred.set(exchange.reply)

        group, client = self._upstreams.group, query.client.address
        return self._single_flight.join(group, key, query, client, completed, make) or deferred

    def try_fast_path_noted(self, query: FastPathQuery) -> Reply | None:
        """Calls `try_fast_path`. The leak guard counts the query if its name should not leave the cluster."""
        self.guard.note(query.key[0], query.zone, query.server)
        return self.try_fast_path(query)

    def try_fast_path(self, query: FastPathQuery) -> Reply | None:
        """Sends a query of the fast path (forwarding without the plugin chain) to the upstreams, and returns None.

        If a limit forbids it, or no upstream may be queried, returns an error reply for the client.
        """
        name, rtype, rclass, _, _ = query.key
        key = (name, rtype, rclass, query.flags, query.edns, self._rule.force_tcp, "", False)
        return self._single_flight.join(self._upstreams.group, key, query, query.client, query.completed)
