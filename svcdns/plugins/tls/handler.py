"""`tls`: the certificate of the block's listeners with TLS, and the TXT records of ACME challenges (RFC 8555 §8.4).

Without ACME, the plugin handles no queries. With ACME, it is in the chain of every server block, because the ACME
server may query any DNS listener.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply
from svcdns.plugin_api.settings import Settings
from svcdns.plugins.tls.acme.data import decode_challenges
from svcdns.plugins.tls.options import CHALLENGES, Options
from svcdns.wire import names
from svcdns.wire.codes import AA, Class, Type
from svcdns.wire.record import Record

LABEL: Final = "_acme-challenge."


class Tls(Plugin):
    """Sets the certificate of the block's listeners with TLS, and answers queries for ACME challenges."""

    name = "tls"

    def __init__(self, options: Options, environment: Environment) -> None:
        domains = {domain for acme in options.managed for domain in acme.domains}
        self._names = frozenset(challenge_name(domain) for domain in domains)
        """The names that may have a challenge, in wire format and lower case."""
        nothing: Mapping[bytes, Sequence[bytes]] = {}
        self._contents = [
            environment.content(self.name, acme.challenges_key, _records, nothing) for acme in options.managed
        ]

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with the data key of the certificate for the block's listeners with TLS."""
        has_certificate = options.certificate or options.acme
        return Settings(
            certificate=options.data_key if has_certificate else None,
            verifies_clients=options.client_auth != "nocert",
        )

    @classmethod
    def has_handler(cls, options: Options) -> bool:
        """Returns True if a server block obtains a certificate with ACME."""
        return bool(options.managed)

    @classmethod
    def is_certificate(cls, key: str) -> bool:
        """Returns True for the keys of certificates, and False for those of challenges."""
        return not key.startswith(CHALLENGES)

    def handle(self, query: Query, following: Following) -> Answer:
        """Answers TXT queries for challenges that are in progress. Passes on all other queries."""
        if query.rtype != Type.TXT or query.key not in self._names or query.rclass != Class.IN:
            return following(query)
        found = [rdata for content in self._contents for rdata in content.value.get(query.key, ())]
        if not found:
            return following(query)
        records = tuple(Record(query.name, Type.TXT, 0, rdata) for rdata in dict.fromkeys(found))
        return Reply(flags=query.reply_flags | AA, answer=records, lifetime=UNTIL_CHANGED)

    def answers_like(self, previous: Plugin) -> bool:  # noqa: ARG002
        """Returns True, because replies depend only on the options, the query, the challenges and later plugins."""
        return True

    def name_independent(self, zone: bytes) -> bool:
        """Returns True if no name of the zone may have a challenge."""
        return not any(names.is_within(name, zone) for name in self._names)

    def join_fast_path(self, fast_path: FastPath) -> bool:  # noqa: ARG002 - nothing to set
        """Returns True, because TXT queries never take the fast path (forwarding without the plugin chain)."""
        return True

    def join_cold_path(self, cold_path: ColdPath) -> bool:
        """Passes TXT queries for challenges on to the plugin chain."""
        cold_path.passes = (self._passes, *cold_path.passes)
        return True

    def _passes(self, key: bytes, rtype: int) -> tuple[()] | None:
        return None if rtype == Type.TXT and key in self._names else ()


def challenge_name(domain: str) -> bytes:
    """Returns the owner of the TXT records for the challenge of a domain, in wire format (RFC 8555 §8.4)."""
    return names.from_text(f"{LABEL}{domain.removeprefix('*.')}.")


def _records(payload: bytes) -> Mapping[bytes, Sequence[bytes]]:
    """Returns the RDATA of the TXT records, by their owner."""
    values = decode_challenges(payload)
    return {
        challenge_name(domain): [bytes((len(text),)) + text.encode() for text in texts]
        for domain, texts in values.items()
    }
