"""`acl`: decides which clients may query which names and types (docs/behaviour/plugins.md#acl).

The plugin runs after `rewrite`, so it sees the rewritten name, and before `cache`. The plugin's client class is the set
of networks in the block's rules that contain the client's address.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import msgspec

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Token
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.contract import Following, Plugin, then
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.networks import Network, Networks, NetworkTextError, packed
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, CacheScope, Reply
from svcdns.plugin_api.settings import Settings
from svcdns.telemetry.counters import Family, MetricKind
from svcdns.telemetry.logging import LineLimit
from svcdns.wire import names
from svcdns.wire.codes import ExtendedError, Rcode, Type
from svcdns.wire.edns import extended_error
from svcdns.wire.record import Edns

ACTIONS: Final = ("allow", "block", "filter", "drop")
SECTIONS: Final = ("type", "net")


@dataclass(frozen=True, slots=True)
class Policy:
    """One line of a rule: the action for queries of certain types from certain networks.

    If `types` is None, the line applies to all types. If `networks` is None, it applies to all clients.
    """

    action: str
    types: frozenset[int] | None = None
    networks: tuple[Network, ...] | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One `acl` directive: its zones as text, and its lines in the order of the Corefile."""

    zones: tuple[str, ...]
    policies: tuple[Policy, ...]


@dataclass(frozen=True, slots=True)
class Options:
    """All `acl` directives of a block, in the order of the Corefile."""

    rules: tuple[Rule, ...]
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's `acl` directives. Raises CorefileError."""
    return Options(
        tuple(_rule(directive, block) for directive in block.directives),
        arguments.ignored_zones([word for directive in block.directives for word in directive.arguments]),
    )


def _rule(directive: Directive, block: Block) -> Rule:
    return Rule(
        arguments.zones(directive.arguments, block.zones), tuple(_policy(line) for line in arguments.body(directive))
    )


def _policy(line: Directive) -> Policy:
    arguments.no_body(line)
    action = line.name.text.lower()
    if action not in ACTIONS:
        expected = f"{', '.join(ACTIONS[:-1])} or {ACTIONS[-1]} was expected"
        raise CorefileError(
            line.position, f"'{line.name.text}' is not an action{arguments.nearest(action, ACTIONS)}; {expected}"
        )
    types: set[int] | None = None
    networks: list[Network] | None = None
    every_type = every_network = False
    for section, words in _sections(line):
        star = next((at for at, word in enumerate(words) if word.text == "*"), len(words))
        if section == "type":
            types = (types or set()) | {_type(word) for word in words[:star]}
            every_type = every_type or star < len(words)
        else:
            networks = (networks or []) + [_network(word) for word in words[:star]]
            every_network = every_network or star < len(words)
    return Policy(
        action,
        None if types is None or every_type else frozenset(types),
        None if networks is None or every_network else tuple(networks),
    )


def _sections(line: Directive) -> list[tuple[str, list[Token]]]:
    out: list[tuple[str, list[Token]]] = []
    for word in line.arguments:
        if word.text.lower() in SECTIONS:
            if out and not out[-1][1]:
                raise CorefileError(word.position, f"'{out[-1][0]}' needs a word after it, '{word.text}' was found")
            out.append((word.text.lower(), []))
        elif not out:
            raise CorefileError(word.position, f"'{word.text}' was found, 'type' or 'net' was expected")
        else:
            out[-1][1].append(word)
    if out and not out[-1][1]:
        raise CorefileError(line.arguments[-1].position, f"'{out[-1][0]}' needs a word after it")
    return out


def _type(word: Token) -> int:
    found = Type.__members__.get(word.text)
    if found is None:
        hint = arguments.nearest(word.text, Type.__members__)
        raise CorefileError(
            word.position, f"'{word.text}' is not a record type{hint}; one in capitals such as AAAA was expected"
        )
    return int(found)


def _network(word: Token) -> Network:
    try:
        return Network.from_text(word.text)
    except NetworkTextError as error:
        raise CorefileError(word.position, str(error)) from error


_BY_ZONE: Final = ("server", "zone", "view")
STOPPED: Final = {
    "block": Family(
        "coredns_acl_blocked_requests_total", MetricKind.COUNTER, "Queries answered REFUSED by an acl rule.", _BY_ZONE
    ),
    "filter": Family(
        "coredns_acl_filtered_requests_total", MetricKind.COUNTER, "Queries answered empty by an acl rule.", _BY_ZONE
    ),
    "drop": Family(
        "coredns_acl_dropped_requests_total", MetricKind.COUNTER, "Queries dropped by an acl rule.", _BY_ZONE
    ),
}
BLOCKED_REQUESTS, FILTERED_REQUESTS, DROPPED_REQUESTS = STOPPED.values()
ALLOWED_REQUESTS: Final = Family(
    "coredns_acl_allowed_requests_total", MetricKind.COUNTER, "Queries that no acl rule stopped.", ("server", "view")
)


class _Line:
    """A line of a rule, with its networks in a form that is fast to search."""

    def __init__(self, policy: Policy) -> None:
        self.action, self.types = policy.action, policy.types
        self.networks = None if policy.networks is None else Networks(policy.networks)


class Acl(Plugin):
    """Decides about each query by the first rule and line that match. A query that no line matches is allowed."""

    name = "acl"
    states_reuse = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with a warning for each word of the Corefile that has no effect."""
        return Settings(warnings=options.warnings)

    def __init__(self, options: Options, environment: Environment) -> None:
        self._counters, self._log, self._limit = environment.counters, environment.log, LineLimit()
        self._rules = [
            (
                tuple((names.from_text(zone).lower(), zone) for zone in rule.zones),
                [_Line(policy) for policy in rule.policies],
            )
            for rule in options.rules
        ]
        self._distinct = [line.networks for _, lines in self._rules for line in lines if line.networks is not None]

    def client_class(self, address: str) -> str:
        """Returns one digit for each set of networks in the rules: 1 if the set contains the address, otherwise 0.

        If the text is not an address, the client class is `?`.
        """
        found = packed(address)
        if found is None:
            return "?"
        return "".join("1" if found in networks else "0" for networks in self._distinct)

    def handle(self, query: Query, following: Following) -> Answer:
        """Passes an allowed query to the following plugins.

        A query that is not allowed gets the reply that the action states, or no reply.
        """
        action, zone, scope = self._decide(query)
        if action == "allow":
            cell = self._counters.cell(ALLOWED_REQUESTS, query.listener, query.view)
        else:
            cell = self._counters.cell(STOPPED[action], query.listener, zone, query.view)
        self._counters.add(cell)
        count = (cell, 1.0)
        if action == "allow":
            return then(
                following(query),
                lambda reply: msgspec.structs.replace(
                    reply, scope=max(scope, reply.scope), increments=(*reply.increments, count)
                ),
            )
        if action == "drop":
            return Reply(dropped=True)
        rcode, code = (
            (Rcode.REFUSED, ExtendedError.BLOCKED) if action == "block" else (Rcode.NOERROR, ExtendedError.FILTERED)
        )
        edns = Edns(4096, dnssec_ok=True, options=(extended_error(code),))
        return Reply(
            rcode=rcode, flags=query.reply_flags, edns=edns, lifetime=UNTIL_CHANGED, scope=scope, increments=(count,)
        )

    def _decide(self, query: Query) -> tuple[str, str, CacheScope]:
        """Returns the action for the query, the zone of the rule that matched, and the clients that get the same
        decision.
        """
        scope = CacheScope.SHARED
        address = packed(query.client.address)
        for zones, lines in self._rules:
            zone = _longest(query.key, zones)
            if zone is None:
                continue
            if address is None:
                text = "Blocking request. Unable to parse source address: %s"
                self._limit.log(self._log, logging.ERROR, text, query.client.address)
                return "block", zone, CacheScope.CLIENT
            for line in lines:
                if line.types is not None and query.rtype not in line.types:
                    continue
                if line.networks is not None:
                    scope = CacheScope.CLIENT_CLASS
                    if address not in line.networks:
                        continue
                return line.action, zone, scope
        return "allow", "", scope


def _longest(key: bytes, zones: tuple[tuple[bytes, str], ...]) -> str | None:
    """Returns the longest zone that contains the name `key`, or None."""
    covering = [(zone, text) for zone, text in zones if names.is_within(key, zone)]
    return max(covering, key=lambda pair: len(pair[0]))[1] if covering else None


PLUGIN: Final = Acl
