"""`erratic`: answers that are dropped, late or truncated, for tests of clients (docs/plugins/erratic.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.networks import packed
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.wire import names
from svcdns.wire.codes import AA, TC, Rcode, Type
from svcdns.wire.record import Record

DEFAULT_AMOUNT: Final = 2
DEFAULT_DELAY: Final = 0.1
LARGE: Final = 30
"""The number of records in an answer for A with the option `large`."""
_ADDRESSES: Final[dict[int, bytes | None]] = {Type.A: packed("192.0.2.53"), Type.AAAA: packed("2001:db8::53")}


@dataclass(frozen=True, slots=True)
class Options:
    """How many queries are dropped, delayed and truncated: one in so many, or none if the number is 0.

    `duration` is the delay in seconds. With `large`, an answer for A has LARGE records.
    """

    drop: int = DEFAULT_AMOUNT
    delay: int = 0
    truncate: int = 0
    duration: float = DEFAULT_DELAY
    large: bool = False


def parse(block: Block) -> Options:
    """Returns the options of the block's `erratic` directives. Raises CorefileError."""
    options, states_drop = Options(), False
    for directive in block.directives:
        for line in arguments.options(directive, {"large": 0}):
            words = arguments.arguments(line, 0, 2 if line.name.text == "delay" else 1)
            match line.name.text:
                case "drop":
                    options = replace(options, drop=_amount(line, options.drop))
                    states_drop = states_drop or bool(words)
                case "delay":
                    duration = arguments.duration(words[1]) if len(words) > 1 else DEFAULT_DELAY
                    options = replace(options, delay=_amount(line, DEFAULT_AMOUNT), duration=max(0.0, duration))
                case "truncate":
                    options = replace(options, truncate=_amount(line, DEFAULT_AMOUNT))
                case "large":
                    options = replace(options, large=True)
                case _:
                    raise arguments.unknown_option(line, ("drop", "truncate", "delay"))
    return replace(options, drop=0) if (options.delay or options.truncate) and not states_drop else options


def _amount(line: Directive, default: int) -> int:
    if not line.arguments:
        return default
    word = line.arguments[0]
    if word.text.startswith("-") and word.text[1:].isdecimal():
        raise CorefileError(word.position, f'illegal amount value given "{word.text}"')
    return arguments.integer(word)


class Erratic(Plugin):
    """Answers each query itself, and drops, delays or truncates some of the answers."""

    name = "erratic"

    def __init__(self, options: Options, environment: Environment) -> None:
        """Begins to count queries. Each worker counts its own."""
        self.options, self.environment = options, environment
        self._queries = 0

    def handle(self, query: Query, following: Following) -> Answer:  # noqa: ARG002 - answers every query
        """Answers A and AAAA with a fixed address, AXFR with a small zone, and other types with SERVFAIL."""
        number, options = self._queries, self.options
        self._queries += 1
        if options.drop and number % options.drop == 0:
            return Reply(dropped=True)
        # CoreDNS compares the bits of the two numbers: with 2, two of four queries are truncated
        reply = self._reply(query, truncated=bool(options.truncate) and number & options.truncate == 0)
        if options.delay and number % options.delay == 0:
            deferred = Deferred()
            asyncio.get_running_loop().call_later(options.duration, deferred.set, reply)
            return deferred
        return reply

    def _reply(self, query: Query, *, truncated: bool) -> Reply:
        flags = query.reply_flags | AA
        if query.rtype == Type.AXFR:
            zone = _zone(query.name)
            return Reply(flags=flags, stream=(part for part in (zone if truncated else (*zone, zone[0]),)))
        address = _ADDRESSES.get(query.rtype)
        if address is None:
            return rcode_only(Rcode.SERVFAIL)
        record = Record(query.name, query.rtype, 0, address)
        count = LARGE if self.options.large and query.rtype == Type.A else 1
        return Reply(flags=flags | (TC if truncated else 0), answer=(record,) * count)


def _zone(name: bytes) -> tuple[Record, ...]:
    """Returns the records of the zone `name`, without the SOA record at the end."""

    def numbers(*values: int) -> Iterable[bytes]:
        return (value.to_bytes(4, "big") for value in values)

    soa_names = names.from_text("sns.dns.icann.org.") + names.from_text("noc.dns.icann.org.")
    soa = soa_names + b"".join(numbers(2018050825, 7200, 3600, 1209600, 3600))
    first, second = b"\1a" + name, b"\1b" + name
    return (
        Record(name, Type.SOA, 0, soa),
        Record(name, Type.NS, 0, second),
        Record(name, Type.NS, 0, first),
        Record(first, Type.AAAA, 0, packed("2001:bd8::53") or b""),
        Record(second, Type.AAAA, 0, packed("2001:500::54") or b""),
    )


PLUGIN: Final = Erratic
