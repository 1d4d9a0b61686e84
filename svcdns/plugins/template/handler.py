"""The handler of `template`: finds the rule for a question, and makes its reply from the rule's texts."""

from __future__ import annotations

from collections.abc import Generator
from functools import lru_cache
from typing import Any, Final

import msgspec

from svcdns.corefile.regex import Regex
from svcdns.plugin_api.contract import Following, joined, steps, then
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.expressions import PERSONAL, EvaluationError
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import NOT_REUSABLE, UNTIL_CHANGED, CacheScope, Reply, rcode_only
from svcdns.plugins.template.data import PERSONAL_FIELDS, functions, groups_of, labels, root
from svcdns.plugins.template.go_template import RenderError, Struct, Text
from svcdns.plugins.template.metrics import MATCHES, RR_FAILURES, TEMPLATE_FAILURES
from svcdns.plugins.template.options import Options, Rule
from svcdns.telemetry.counters import Counters
from svcdns.wire import names
from svcdns.wire.codes import AA, TC, Class, Rcode, Type
from svcdns.wire.errors import NameTextError
from svcdns.wire.record import Edns, Record
from svcdns.wire.zone_text import ZoneFileError, read_record

EXTENDED_ERROR: Final = 15
"""The EDNS option of RFC 8914."""

record_of = lru_cache(4096)(read_record)


class Template:
    """The `template` directives of a block, in file order."""

    name = "template"

    def __init__(self, options: Options, environment: Environment) -> None:
        """Counts in the environment's counters."""
        self._rules = [_Rule(rule, environment.counters) for rule in options.rules]

    def handle(self, query: Query, following: Following) -> Answer:
        """The reply of the first rule that applies; a rule that nearly did ends the search unless it falls through."""
        personal = False
        for rule in self._rules:
            zone = rule.zone_of(query)
            if zone is None:
                continue
            match = rule.match(query, zone)
            if match is not None:
                personal = personal or rule.judges_clients
                try:
                    applies = rule.holds(match)
                except EvaluationError as error:
                    return rcode_only(Rcode.SERVFAIL, str(error))
                if applies:
                    answer = steps(rule.reply(match))
                    return _for_one(answer) if personal or rule.shows_clients else answer
            if not rule.falls_through(query):
                return rcode_only(Rcode.SERVFAIL)
        return _for_one(following(query)) if personal else following(query)


class _Match(msgspec.Struct):
    """A question that a rule is for: the zone, the pattern that matched, and what it found."""

    query: Query
    zone: str
    pattern: Regex
    groups: tuple[str, ...]
    variables: dict[str, Any]


class _Rule:
    """One `template` directive at work."""

    def __init__(self, rule: Rule, counters: Counters) -> None:
        self._rule, self._counters = rule, counters
        self._zones = [(zone, names.from_text(zone).lower()) for zone in rule.zones]
        self._fallthrough = [names.from_text(zone).lower() for zone in rule.fallthrough]
        calls = [expression.calls for expression in (*rule.conditions, *(expression for _, expression in rule.variables))]
        self.judges_clients = not PERSONAL.isdisjoint(frozenset().union(*calls))
        """Whether more than the packet decides if the rule applies."""
        fields = [text.fields for text in (*rule.answer, *rule.additional, *rule.authority)]
        self.shows_clients = not PERSONAL_FIELDS.isdisjoint(frozenset().union(*fields))
        """Whether more than the packet is in the reply."""

    def zone_of(self, query: Query) -> str | None:
        """The longest of the rule's zones around the name; None too where class or type are not the rule's."""
        rule = self._rule
        if Class.ANY not in (rule.rclass, query.rclass) and rule.rclass != query.rclass:
            return None
        if Type.ANY not in (rule.rtype, query.rtype) and rule.rtype != query.rtype:
            return None
        around = [(len(wire), zone) for zone, wire in self._zones if names.is_within(query.key, wire)]
        return max(around)[1] if around else None

    def falls_through(self, query: Query) -> bool:
        """Whether a question that the rule nearly was for goes on."""
        return any(names.is_within(query.key, zone) for zone in self._fallthrough)

    def match(self, query: Query, zone: str) -> _Match | None:
        """The first pattern that matches the name."""
        name = names.to_text(query.key)
        for pattern in self._rule.patterns:
            groups = pattern.find(name)
            if groups is not None:
                return _Match(query, zone, pattern, groups, {})
        return None

    def holds(self, match: _Match) -> bool:
        """Works the variables out, and whether all conditions are true. Raises EvaluationError."""
        rule = self._rule
        if not rule.variables and not rule.conditions:
            return True
        values: dict[str, Any] = dict(functions(match.query, groups_of(match.pattern, match.groups)))
        for name, expression in rule.variables:
            match.variables[name] = values[name] = expression.run(values)
        return all(condition.run(values) is True for condition in rule.conditions)

    def reply(self, match: _Match) -> Generator[Answer, Reply, Reply]:
        """The reply; a CNAME among the answers to a question for addresses is followed."""
        rule, query = self._rule, match.query
        shown = labels(query, rule.rclass, rule.rtype)
        where = (query.server, match.zone, query.view, *shown)
        cell = self._counters.cell(MATCHES, *where)
        self._counters.add(cell)
        if rule.rcode == Rcode.SERVFAIL:
            return rcode_only(Rcode.SERVFAIL)
        data = root(query, match.zone, shown, match.pattern, match.groups, match.variables)
        reply = Reply(lifetime=UNTIL_CHANGED, increments=((cell, 1.0),))
        flags, answer = query.reply_flags | AA, []
        try:
            for text in rule.answer:
                record = self._record("answer", text, data, where)
                answer.append(record)
                if record.rtype == Type.CNAME and query.rtype in (Type.A, Type.AAAA):
                    found = yield query.ask(record.rdata, query.rtype)
                    if not found.dropped:
                        answer += found.answer
                        flags = flags & ~TC | found.flags & TC
                        reply = joined(reply, found)
            additional = tuple(self._record("additional", text, data, where) for text in rule.additional)
            authority = tuple(self._record("authority", text, data, where) for text in rule.authority)
        except (RenderError, ZoneFileError, NameTextError) as error:
            return rcode_only(Rcode.SERVFAIL, str(error))
        return msgspec.structs.replace(
            reply,
            rcode=rule.rcode,
            flags=flags,
            answer=tuple(answer),
            authority=authority,
            additional=additional,
            edns=_extended_error(rule.ederror),
        )

    def _record(self, section: str, text: Text, data: Struct, where: tuple[str, ...]) -> Record:
        """The record that a text becomes. Raises what it raised, counted."""
        try:
            rendered = text.render(data)
        except RenderError:
            self._counters.count(TEMPLATE_FAILURES, *where, section, text.text)
            raise
        try:
            return record_of(rendered)
        except (ZoneFileError, NameTextError):
            self._counters.count(RR_FAILURES, *where, section, text.text)
            raise


def _extended_error(error: tuple[int, str] | None) -> Edns | None:
    """The OPT of a reply with an extended DNS error, with DO set as CoreDNS does."""
    if error is None:
        return None
    code, text = error
    return Edns(4096, dnssec_ok=True, options=((EXTENDED_ERROR, code.to_bytes(2, "big") + text.encode()),))


def _for_one(answer: Answer) -> Answer:
    """The answer marked as being for this client and this query alone."""
    return then(answer, lambda reply: msgspec.structs.replace(reply, scope=CacheScope.CLIENT, lifetime=NOT_REUSABLE))
