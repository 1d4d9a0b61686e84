"""`errors`: logs errors that occur inside the plugin chain (docs/behaviour/plugins.md#errors).

Clients never get the text of an error, only the response code.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.regex import Regex, regex
from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Following, Plugin, then
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply
from svcdns.wire.codes import type_text
from svcdns.wire.names import to_text

_LEVELS: Final = {"warning": logging.WARNING, "error": logging.ERROR, "info": logging.INFO, "debug": logging.DEBUG}


@dataclass(frozen=True, slots=True)
class Rule:
    """A `consolidate` rule: errors that match `pattern` are counted for `period` seconds, then logged in one line."""

    period: float
    pattern: Regex
    level: int = logging.ERROR
    show_first: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """The `consolidate` rules, in the order of the Corefile. The option `stacktrace` has no effect."""

    rules: tuple[Rule, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's `errors` directive. Raises CorefileError."""
    directive = arguments.once(block.directives)
    for word in arguments.arguments(directive, 0, 1):
        arguments.one_of(word, ("stdout",))
    rules = []
    for line in arguments.options(directive, {"stacktrace": 0}):
        if line.name.text == "stacktrace":
            arguments.arguments(line, 0, 0)
        elif line.name.text == "consolidate":
            rules.append(_rule(line))
        else:
            raise arguments.unknown_option(line, ("stacktrace", "consolidate"))
    return Options(tuple(rules))


def _rule(line: Directive) -> Rule:
    period, pattern, *rest = arguments.arguments(line, 2, 4)
    seconds = arguments.duration(period)
    if seconds <= 0:
        raise CorefileError(period.position, f"'{period.text}' is not above 0")
    matching = regex(pattern)
    level, show_first = logging.ERROR, False
    for number, word in enumerate(rest):
        if word.text == "show_first":
            show_first = True
        elif number == 0:
            level = _LEVELS[arguments.one_of(word, (*_LEVELS, "show_first"))]
        else:
            raise CorefileError(word.position, f"'{word.text}' is unknown; show_first was expected")
    return Rule(seconds, matching, level, show_first)


@dataclass(slots=True)
class _Pending:
    """A rule, with the number of errors counted in the current period."""

    rule: Rule
    count: int = 0
    until: float = field(default=0.0)


class Errors(Plugin):
    """Logs the errors of replies."""

    name = "errors"
    reads_nothing = True

    def __init__(self, options: Options, environment: Environment) -> None:
        """Takes the logger and the clock of the environment."""
        self._log, self._clock = environment.log, environment.clock
        self._pending = [_Pending(rule) for rule in options.rules]

    def answers_like(self, previous: Plugin) -> bool:  # noqa: ARG002
        """Returns True, because replies depend only on the options, the query and the rest of the chain."""
        return True

    def handle(self, query: Query, following: Following) -> Answer:
        """Returns the following plugins' answer, and logs its error if it has one."""
        reply = following(query)
        return self._reported(query, reply) if isinstance(reply, Reply) else then(reply, partial(self._reported, query))

    def _reported(self, query: Query, reply: Reply) -> Reply:
        if reply.error:
            self._report(f"{reply.rcode} {to_text(query.key)} {type_text(query.rtype)}: {reply.error}", reply.error)
        return reply

    def name_independent(self, zone: bytes) -> bool:  # noqa: ARG002 - a negative answer is not an error
        """Returns True, because this plugin neither changes nor logs negative answers."""
        return True

    def join_fast_path(self, fast_path: FastPath) -> bool:  # noqa: ARG002 - nothing to set
        """Returns True, because replies on the fast path (forwarding without the plugin chain) have no errors."""
        return True

    def join_cold_path(self, cold_path: ColdPath) -> bool:  # noqa: ARG002 - nothing to set
        """Returns True, because replies on the cold path (replies without the plugin chain) have no error to log."""
        return True

    def stop(self) -> None:
        """Logs one line for each rule that has counted errors."""
        for pending in self._pending:
            self._summarise(pending)

    def tick(self) -> None:
        """Logs one line for each rule whose period is over and that has counted errors. Called about once a second."""
        now = self._clock()
        for pending in self._pending:
            if pending.count and now >= pending.until:
                self._summarise(pending)

    def _report(self, line: str, text: str) -> None:
        for pending in self._pending:
            if pending.rule.pattern.find(text) is not None:
                pending.count += 1
                if pending.count == 1:
                    pending.until = self._clock() + pending.rule.period
                    if pending.rule.show_first:
                        self._log.log(pending.rule.level, "%s", line)
                return
        self._log.error("%s", line)

    def _summarise(self, pending: _Pending) -> None:
        rule, count, pending.count = pending.rule, pending.count, 0
        if count > (1 if rule.show_first else 0):
            self._log.log(
                rule.level,
                "%d errors like '%s' occurred in last %s",
                count,
                rule.pattern.text,
                _duration_text(rule.period),
            )


def _duration_text(seconds: float) -> str:
    """Returns a duration as text in Go's format, such as 30s, 1m30s or 500ms."""
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    return (f"{hours:g}h" if hours else "") + (f"{minutes:g}m" if hours or minutes else "") + f"{rest:g}s"


PLUGIN: Final = Errors
