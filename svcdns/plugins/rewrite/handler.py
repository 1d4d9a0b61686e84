"""The handler of `rewrite`: applies the query rules to a query, and the response rules that they return to its reply.

The client's reply has the client's question: the server core puts it there, so this module does not. A bare response
code becomes a reply with a message if a rule applied that ends the list or has response rules; so response rules see
it.
The rules are those of docs/behaviour/plugins.md#rewrite.
"""

from __future__ import annotations

from collections.abc import Generator

import msgspec

from svcdns.plugin_api.contract import Following, Plugin, steps
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import CacheScope, Reply, rcode_only
from svcdns.plugins.rewrite.edns import OptionRule
from svcdns.plugins.rewrite.options import Options
from svcdns.plugins.rewrite.query_rules import InvalidNameError, QueryDraft
from svcdns.plugins.rewrite.reply_draft import ReplyDraft, ResponseRule, apply_rules
from svcdns.plugins.rewrite.response_rules import OptionRevert
from svcdns.wire.codes import Rcode
from svcdns.wire.errors import NameTextError


class Rewrite(Plugin):
    """Applies the `rewrite` directives of one server block, in file order."""

    name = "rewrite"
    states_reuse = True

    def __init__(self, options: Options, environment: Environment) -> None:  # noqa: ARG002 - the rules need nothing else
        """As in CoreDNS, EDNS options with a code of `edns0 local` are echoed to all clients that send them."""
        self._rules = options.rules
        self.echoed_options = frozenset(
            rule.code for rule in options.rules if isinstance(rule, OptionRule) and rule.local
        )

    def handle(self, query: Query, following: Following) -> Answer:
        """Sends the query that the rules make to the next plugin."""
        draft = QueryDraft(query)
        responses: list[ResponseRule] = []
        applied = stopped = False
        try:
            for rule in self._rules:
                found = rule.apply(draft)
                if found is not None:
                    applied = True
                    responses += found
                    if rule.stop:
                        stopped = True
                        break
        except InvalidNameError as error:
            return rcode_only(Rcode.SERVFAIL, str(error))
        if not applied:
            query.edns = draft.query.edns
            return following(query)
        return steps(_answer(query, draft, responses, following, write=stopped or bool(responses)))


def _answer(
    query: Query, draft: QueryDraft, responses: list[ResponseRule], following: Following, *, write: bool
) -> Generator[Answer, Reply, Reply]:
    """The rewritten reply of the chain.

    Changes of the chain to the header and the EDNS of its query are made to the client's query, too.
    """
    reply = yield following(draft.query)
    query.flags, query.edns = draft.query.flags, draft.query.edns
    if reply.dropped:
        return reply
    if draft.per_client:
        reply = msgspec.structs.replace(reply, scope=CacheScope.CLIENT)
    if write and not reply.has_message:
        reply = msgspec.structs.replace(reply, has_message=True, flags=draft.query.reply_flags)
    if not responses or not reply.has_message:
        return reply
    for rule in reversed(responses):
        if isinstance(rule, OptionRevert) and query.edns is not None:
            query.edns = rule.reverted(query.edns)
    try:
        return (yield from apply_rules(ReplyDraft(reply, draft.query), responses))
    except NameTextError as error:
        return rcode_only(Rcode.SERVFAIL, f"invalid name after rewrite: {error}")
