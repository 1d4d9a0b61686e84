"""The handler of `rewrite`: applies query rules to a query, and then response rules to the reply.

Each query rule that applies returns response rules for the reply. The server, not this module, restores the client's
question in the reply. See docs/behaviour/plugins.md#rewrite.
"""

from __future__ import annotations

from collections.abc import Generator

import msgspec

from svcdns.plugin_api.contract import Following, Plugin, steps, then
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
    """Applies the `rewrite` directives of one server block, in the order of the Corefile."""

    name = "rewrite"
    states_reuse = True

    def __init__(self, options: Options, environment: Environment) -> None:  # noqa: ARG002 - the rules need nothing else
        """Sets `echoed_options` to the codes of the rules `edns0 local`.

        As in CoreDNS, the server repeats the client's options with these codes in the reply.
        """
        self._rules = options.rules
        self.echoed_options = frozenset(
            rule.code for rule in options.rules if isinstance(rule, OptionRule) and rule.local
        )

    def answers_like(self, previous: Plugin) -> bool:  # noqa: ARG002
        """Returns True, because replies depend only on the options, the query and the rest of the chain."""
        return True

    def handle(self, query: Query, following: Following) -> Answer:
        """Changes the query by the rules, and passes it on."""
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
            query.edns, query.edns_added = draft.query.edns, draft.query.edns_added
            answer = following(query)
            return then(answer, _for_this_client) if draft.per_client else answer
        return steps(_answer(query, draft, responses, following, write=stopped or bool(responses)))


def _for_this_client(reply: Reply) -> Reply:
    return msgspec.structs.replace(reply, scope=CacheScope.CLIENT)


def _answer(
    query: Query, draft: QueryDraft, responses: list[ResponseRule], following: Following, *, write: bool
) -> Generator[Answer, Reply, Reply]:
    """Passes on the changed query, and returns the reply after the response rules.

    If the following plugins change the header or the EDNS data of their query, the client's query is changed in the
    same way. If `write` is true, a reply that is only a response code becomes a message.
    """
    reply = yield following(draft.query)
    query.flags, query.edns = draft.query.flags, draft.query.edns
    if reply.dropped:
        return reply
    if draft.per_client:
        reply = _for_this_client(reply)
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
