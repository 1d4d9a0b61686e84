"""The handler of `rewrite`: runs the rules over a question, and those that they ask for over its reply.

The reply is for the question that was asked: the core writes that one into it. A chain that wrote nothing is written for here, as soon as a
rule applied that ends the list or has something to do with the reply, so that response rules see it.
"""

from __future__ import annotations

from collections.abc import Generator

import msgspec

from svcdns.plugin_api.contract import Following, steps
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import CacheScope, Reply, rcode_only
from svcdns.plugins.rewrite.edns import OptionRule
from svcdns.plugins.rewrite.options import Options
from svcdns.plugins.rewrite.query_rules import Asked, InvalidName
from svcdns.plugins.rewrite.response_rules import Draft, OptionReverted, ResponseRule, rewritten
from svcdns.wire.codes import Rcode
from svcdns.wire.errors import NameTextError


class Rewrite:
    """The `rewrite` lines of a block, in file order."""

    name = "rewrite"

    def __init__(self, options: Options, environment: Environment) -> None:  # noqa: ARG002 - needs no surroundings
        """Option codes of `edns0` rules are echoed to all clients, as in CoreDNS."""
        self._rules = options.rules
        self.echoed_options = frozenset(rule.code for rule in options.rules if isinstance(rule, OptionRule) and rule.local)

    def handle(self, query: Query, following: Following) -> Answer:
        """Asks on with the question that the rules made."""
        asked = Asked(query)
        responses: list[ResponseRule] = []
        applied = stopped = False
        try:
            for rule in self._rules:
                found = rule.apply(asked)
                if found is not None:
                    applied = True
                    responses += found
                    if rule.stop:
                        stopped = True
                        break
        except InvalidName as error:
            return rcode_only(Rcode.SERVFAIL, str(error))
        if not applied:
            query.edns = asked.query.edns
            return following(query)
        return steps(_answer(query, asked, responses, following, write=stopped or bool(responses)))


def _answer(
    query: Query, asked: Asked, responses: list[ResponseRule], following: Following, *, write: bool
) -> Generator[Answer, Reply, Reply]:
    """The chain's reply, rewritten. What the chain did to header and EDNS of the changed question holds for the asked one."""
    reply = yield following(asked.query)
    query.flags, query.edns = asked.query.flags, asked.query.edns
    if reply.dropped:
        return reply
    if asked.personal:
        reply = msgspec.structs.replace(reply, scope=CacheScope.CLIENT)
    if write and not reply.has_message:
        reply = msgspec.structs.replace(reply, has_message=True, flags=asked.query.reply_flags)
    if not responses or not reply.has_message:
        return reply
    for rule in reversed(responses):
        if isinstance(rule, OptionReverted) and query.edns is not None:
            query.edns = rule.reverted(query.edns)
    try:
        return (yield from rewritten(Draft(reply, asked.query), responses))
    except NameTextError as error:
        return rcode_only(Rcode.SERVFAIL, f"invalid name after rewrite: {error}")
