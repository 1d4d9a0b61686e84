"""The handler of `template`: finds the rule for a query, and makes the reply from the rule's templates.

See docs/behaviour/plugins.md#template.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import lru_cache
from typing import Any

import msgspec

from svcdns.corefile.regex import Regex
from svcdns.plugin_api.contract import Following, Plugin, steps, then
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.expressions import PER_CLIENT, EvaluationError
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import NOT_REUSABLE, UNTIL_CHANGED, CacheScope, Reply, rcode_only
from svcdns.plugin_api.settings import Settings
from svcdns.plugins.template.data import PER_CLIENT_FIELDS, class_and_type, functions, groups_of, root
from svcdns.plugins.template.go_template import ParsedTemplate, RenderError, Struct
from svcdns.plugins.template.metrics import MATCHES, RR_FAILURES, TEMPLATE_FAILURES
from svcdns.plugins.template.options import Options, Rule
from svcdns.telemetry.counters import Counters
from svcdns.wire import names
from svcdns.wire.codes import AA, TC, Class, Rcode, Type
from svcdns.wire.edns import extended_error
from svcdns.wire.errors import NameTextError
from svcdns.wire.record import Edns, Record
from svcdns.wire.zone_text import ZoneFileError, read_record

parse_record = lru_cache(4096)(read_record)


class Template(Plugin):
    """Applies the `template` directives of one server block, in the order of the Corefile."""

    name = "template"
    states_reuse = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with a warning for each word of the Corefile that has no effect."""
        return Settings(warnings=options.warnings)

    def __init__(self, options: Options, environment: Environment) -> None:
        self._rules = [_RuleHandler(rule, environment.counters) for rule in options.rules]

    def answers_like(self, previous: Plugin) -> bool:  # noqa: ARG002
        """Returns True, because replies depend only on the options, the query and the rest of the chain."""
        return True

    def handle(self, query: Query, following: Following) -> Answer:
        """Returns the reply of the first rule that applies to the query.

        If only the zone, class and type of a rule match, the reply is SERVFAIL. If the rule also has `fallthrough` for
        the query name, the next rule is tried instead.
        """
        per_client = False
        for rule in self._rules:
            zone = rule.zone_of(query)
            if zone is None:
                continue
            match = rule.match(query, zone)
            if match is not None:
                per_client = per_client or rule.condition_is_per_client
                try:
                    applies = rule.evaluate(match)
                except EvaluationError as error:
                    return rcode_only(Rcode.SERVFAIL, str(error))
                if applies:
                    answer = steps(rule.reply(match))
                    return _for_this_client(answer) if per_client or rule.reply_is_per_client else answer
            if not rule.falls_through(query):
                return rcode_only(Rcode.SERVFAIL)
        return _for_this_client(following(query)) if per_client else following(query)


class _Match(msgspec.Struct):
    """A match of a query with a rule: the zone, the pattern, its groups, and the rule's variables."""

    query: Query
    zone: str
    pattern: Regex
    groups: tuple[str, ...]
    variables: dict[str, Any]


class _RuleHandler:
    """Handles queries by one `template` directive."""

    def __init__(self, rule: Rule, counters: Counters) -> None:
        self._rule, self._counters = rule, counters
        self._zones = [(zone, names.from_text(zone).lower()) for zone in rule.zones]
        self._fallthrough = [names.from_text(zone).lower() for zone in rule.fallthrough]
        calls = [
            expression.calls for expression in (*rule.conditions, *(expression for _, expression in rule.variables))
        ]
        self.condition_is_per_client = not PER_CLIENT.isdisjoint(frozenset().union(*calls))
        """True if the variables and conditions depend on more than the packet."""
        fields = [template.fields for template in (*rule.answer, *rule.additional, *rule.authority)]
        self.reply_is_per_client = not PER_CLIENT_FIELDS.isdisjoint(frozenset().union(*fields))
        """True if the templates depend on more than the packet."""

    def zone_of(self, query: Query) -> str | None:
        """Returns the longest zone of the rule that contains the query name.

        Returns None if there is none, or if the rule is for another class or type.
        """
        rule = self._rule
        if Class.ANY not in (rule.rclass, query.rclass) and rule.rclass != query.rclass:
            return None
        if Type.ANY not in (rule.rtype, query.rtype) and rule.rtype != query.rtype:
            return None
        enclosing = [(len(wire), zone) for zone, wire in self._zones if names.is_within(query.key, wire)]
        return max(enclosing)[1] if enclosing else None

    def falls_through(self, query: Query) -> bool:
        """Returns True if the option `fallthrough` covers the query name."""
        return any(names.is_within(query.key, zone) for zone in self._fallthrough)

    def match(self, query: Query, zone: str) -> _Match | None:
        name = names.to_text(query.key)
        for pattern in self._rule.patterns:
            groups = pattern.find(name)
            if groups is not None:
                return _Match(query, zone, pattern, groups, {})
        return None

    def evaluate(self, match: _Match) -> bool:
        """Evaluates the variables of the rule. Returns True if all its conditions are true. Raises EvaluationError."""
        rule = self._rule
        if not rule.variables and not rule.conditions:
            return True
        values: dict[str, Any] = dict(functions(match.query, groups_of(match.pattern, match.groups)))
        for name, expression in rule.variables:
            match.variables[name] = values[name] = expression.run(values)
        return all(condition.run(values) is True for condition in rule.conditions)

    def reply(self, match: _Match) -> Generator[Answer, Reply, Reply]:
        """Returns the reply from the rule's templates.

        If an A or AAAA query is answered with a CNAME record, the server's answer for the target is added.
        """
        rule, query = self._rule, match.query
        shown = class_and_type(query, rule.rclass, rule.rtype)
        labels = (query.server, match.zone, query.view, *shown)
        cell = self._counters.cell(MATCHES, *labels)
        self._counters.add(cell)
        if rule.rcode == Rcode.SERVFAIL:
            return rcode_only(Rcode.SERVFAIL)
        data = root(query, match.zone, shown, match.pattern, match.groups, match.variables)
        reply = Reply(lifetime=UNTIL_CHANGED, increments=((cell, 1.0),))
        flags, answer = query.reply_flags | AA, []
        try:
            for template in rule.answer:
                record = self._record("answer", template, data, labels)
                answer.append(record)
                if record.rtype == Type.CNAME and query.rtype in (Type.A, Type.AAAA):
                    found = yield query.ask(record.rdata, query.rtype)
                    if not found.dropped:
                        answer += found.answer
                        flags = flags & ~TC | found.flags & TC
            additional = tuple(self._record("additional", template, data, labels) for template in rule.additional)
            authority = tuple(self._record("authority", template, data, labels) for template in rule.authority)
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

    def _record(self, section: str, template: ParsedTemplate, data: Struct, labels: tuple[str, ...]) -> Record:
        """Returns the record from one template.

        Counts errors in the metrics, and raises RenderError, ZoneFileError or NameTextError.
        """
        try:
            rendered = template.render(data)
        except RenderError:
            self._counters.count(TEMPLATE_FAILURES, *labels, section, template.text)
            raise
        try:
            return parse_record(rendered)
        except (ZoneFileError, NameTextError):
            self._counters.count(RR_FAILURES, *labels, section, template.text)
            raise


def _extended_error(error: tuple[int, str] | None) -> Edns | None:
    """Returns an OPT record with the extended DNS error, or None without an error."""
    if error is None:
        return None
    code, text = error
    return Edns(4096, dnssec_ok=True, options=(extended_error(code, text),))


def _for_this_client(answer: Answer) -> Answer:
    """Returns the answer, marked so that the reply is never reused for another query."""
    return then(answer, lambda reply: msgspec.structs.replace(reply, scope=CacheScope.CLIENT, lifetime=NOT_REUSABLE))
