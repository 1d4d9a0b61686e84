"""`dns64`: makes IPv6 addresses from IPv4 addresses, for clients that have only IPv6 (RFC 6147, RFC 6052).

The following plugins answer an AAAA query first. If they find no AAAA record, and the name exists, the plugin sends a
query for A records through the server. The reply to the client has one IPv6 address for each A record. Without
`allow_ipv4`, the client class is the family of the client's address. See docs/behaviour/plugins.md#dns64.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Token
from svcdns.corefile.errors import CorefileError
from svcdns.log_line import LogLine
from svcdns.plugin_api.contract import Following, Plugin, then
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, CacheScope, Reply, joined
from svcdns.plugin_api.reply_type import MessageType, classify
from svcdns.telemetry.counters import Family, MetricKind
from svcdns.telemetry.logging import plugin_logger
from svcdns.wire.codes import TC, Class, Type
from svcdns.wire.record import Record

LENGTHS: Final = (32, 40, 48, 56, 64, 72, 80, 88, 96)
DEFAULT_TTL: Final = 600
"""The longest TTL of a made AAAA record, in seconds, if the reply to the AAAA query has no SOA (RFC 6147 §5.1.7)."""
_FLAGS: Final = ("translate_all", "allow_ipv4")
_WORDS: Final = {"prefix": 1, **dict.fromkeys(_FLAGS, 0)}


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `dns64`. `prefix` has the 4 to 12 octets of the IPv6 prefix.

    `ignored` has the positions in the Corefile and the names of options that have no effect.
    """

    prefix: bytes = ipaddress.ip_address("64:ff9b::").packed[:12]
    translate_all: bool = False
    allow_ipv4: bool = False
    ignored: tuple[tuple[str, str], ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of all `dns64` directives of the block together. Raises CorefileError.

    As in CoreDNS, only the option `prefix` is read in the braces of a directive that has a prefix in its first line.
    """
    options = Options()
    for directive in block.directives:
        words = arguments.arguments(directive, 0, 1)
        if words:
            options = replace(options, prefix=_prefix(words[0]))
        for line in arguments.body(directive) if words else arguments.options(directive, _WORDS):
            arguments.no_body(line)
            options = _after_prefix(line, options) if words else _option(line, options)
    return options


def _after_prefix(line: Directive, options: Options) -> Options:
    if arguments.arguments(line, 0, 1):
        return replace(options, prefix=_prefix(line.arguments[0]))
    where = f"{line.position.file}:{line.position.line}"
    return replace(options, ignored=(*options.ignored, (where, line.name.text)))


def _option(line: Directive, options: Options) -> Options:
    name = line.name.text
    if name == "prefix":
        return replace(options, prefix=_prefix(arguments.argument(line)))
    if name not in _FLAGS:
        raise arguments.unknown_option(line, ("prefix", *_FLAGS))
    arguments.arguments(line, 0, 0)
    return replace(
        options,
        translate_all=options.translate_all or name == _FLAGS[0],
        allow_ipv4=options.allow_ipv4 or name == _FLAGS[1],
    )


def _prefix(word: Token) -> bytes:
    address, _, length = word.text.partition("/")
    try:
        network = ipaddress.IPv6Network(word.text, strict=False)
    except ValueError:
        network = None
    if network is None or not address or not length.isdecimal() or network.prefixlen not in LENGTHS:
        expected = f"an IPv6 prefix of {', '.join(map(str, LENGTHS[:-1]))} or {LENGTHS[-1]} bits"
        raise CorefileError(
            word.position, f"'{word.text}' is not a prefix; {expected} such as 64:ff9b::/96 was expected"
        )
    return network.network_address.packed[: network.prefixlen // 8]


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:  # noqa: ARG001 - reads no files
    """Logs a warning for options without effect. Returns no data."""
    for where, name in options.ignored:
        plugin_logger("dns64").warning(
            LogLine(
                "an option has no effect after a prefix in the directive; write 'prefix' in the block instead",
                option=name,
                position=where,
            )
        )
    return {}


TRANSLATED: Final = Family(
    "coredns_dns64_requests_translated_total",
    MetricKind.COUNTER,
    "AAAA queries answered with addresses made of A records.",
    ("server",),
)


class Dns64(Plugin):
    """Makes AAAA records from A records, for the clients of one server block."""

    name = "dns64"
    states_reuse = True

    def __init__(self, options: Options, environment: Environment) -> None:
        self._options, self._counters = options, environment.counters

    def client_class(self, address: str) -> str:
        """Returns the family of the address, IPv4 or IPv6.

        With `allow_ipv4`, all clients have the same client class.
        """
        return "" if self._options.allow_ipv4 else "6" if ":" in address else "4"

    def handle(self, query: Query, following: Following) -> Answer:
        """Passes the query on. May replace the reply to an AAAA query with addresses that are made from A records.

        Without `allow_ipv4`, only replies to IPv6 clients are replaced.
        """
        if query.rtype != Type.AAAA or query.rclass != Class.IN:
            return following(query)
        answer = following(query)
        if self._options.allow_ipv4:
            return self._translated(query, answer)
        if query.client.family == 2:
            answer = self._translated(query, answer)
        return then(answer, _for_family)

    def _translated(self, query: Query, answer: Answer) -> Answer:
        if not isinstance(answer, Reply):
            return self._later(query, answer)
        if not self._needs_mapping(query, answer):
            return answer
        first = answer
        return then(query.ask(query.key, Type.A), lambda reply: self._mapped(query, first, reply))

    async def _later(self, query: Query, answer: Answer) -> Reply:
        assert not isinstance(answer, Reply)
        out = self._translated(query, await answer)
        return out if isinstance(out, Reply) else await out

    def _needs_mapping(self, query: Query, reply: Reply) -> bool:
        """Returns True if the reply to the AAAA query must be replaced with addresses made from A records."""
        if not reply.has_message or reply.dropped or classify(query, reply) == MessageType.NXDOMAIN:
            return False
        return self._options.translate_all or not any(record.rtype == Type.AAAA for record in reply.answer)

    def _mapped(self, query: Query, first: Reply, reply: Reply) -> Reply:
        """Returns the reply to the AAAA query, with addresses made from the A records in `reply`.

        `first` is the following plugins' reply to the AAAA query.
        """
        if reply.dropped:
            return joined(reply, first)
        longest = next((record.ttl for record in reversed(first.authority) if record.rtype == Type.SOA), DEFAULT_TTL)
        cell = self._counters.cell(TRANSLATED, query.server)
        self._counters.add(cell)
        mapped = Reply(
            flags=query.reply_flags | reply.flags & TC,
            answer=tuple(self._record(record, longest) for record in reply.answer),
            authority=reply.authority,
            additional=reply.additional,
            edns=reply.edns,
            lifetime=UNTIL_CHANGED,
            increments=((cell, 1.0),),
            rotate=reply.rotate,
        )
        return joined(mapped, first)

    def _record(self, record: Record, longest: int) -> Record:
        if record.rtype != Type.A:
            return record
        return Record(
            record.owner,
            Type.AAAA,
            min(record.ttl, longest),
            embedded(self._options.prefix, record.rdata),
            record.rclass,
        )


def embedded(prefix: bytes, address: bytes) -> bytes:
    """Returns the IPv6 address for an IPv4 address: the prefix, then the IPv4 address, with octet 8 zero (RFC 6052
    §2.2).
    """
    out = prefix + address
    if len(prefix) <= 8:
        out = out[:8] + b"\0" + out[8:]
    return out.ljust(16, b"\0")


def _for_family(reply: Reply) -> Reply:
    return msgspec.structs.replace(reply, scope=max(reply.scope, CacheScope.CLIENT_CLASS))


PLUGIN: Final = Dns64
