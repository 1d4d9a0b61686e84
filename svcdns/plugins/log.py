"""`log`: writes a log line for every query (docs/behaviour/plugins.md#log).

The server calls `observe` after each reply, even if the reply comes from the answer table.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Token
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.reply_type import MessageType, class_of, classify
from svcdns.plugin_api.settings import Settings
from svcdns.wire import names
from svcdns.wire.codes import AA, AD, CD, QR, RA, RD, TC, Z, class_text, rcode_text, type_text

COMMON: Final = '{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}" {rcode} {>rflags} {rsize} {duration}'
COMBINED: Final = COMMON + ' "{>opcode}"'
CLASSES: Final = ("all", "success", "denial", "error")


@dataclass(frozen=True, slots=True)
class Rule:
    """One `log` directive: its zones as text, the format of its lines, and the classes of replies that are logged."""

    zones: tuple[str, ...]
    format: str
    classes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Options:
    """The `log` directives of one block, in the order of the Corefile.

    A query is logged by the first directive that has a zone with the query name.
    """

    rules: tuple[Rule, ...]
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's `log` directives. Raises CorefileError."""
    named = tuple(word for directive in block.directives for word in directive.arguments if "{" not in word.text)
    ignored = arguments.ignored_zones([word for word in named if word.text])
    return Options(tuple(_rule(directive) for directive in block.directives), ignored)


def _zones(word: Token) -> tuple[str, ...]:
    """Returns the zones that a word names. As in CoreDNS, an empty word means the root zone."""
    return arguments.zones([word]) if word.text else (".",)


def _rule(directive: Directive) -> Rule:
    words = list(directive.arguments)
    template = COMMON
    if len(words) > 1 and "{" in words[-1].text:
        template = words.pop().text.replace("{common}", COMMON).replace("{combined}", COMBINED)
    zones = tuple(zone for word in words for zone in _zones(word))
    classes: set[str] = set()
    for line in arguments.body(directive):
        if line.name.text != "class":
            raise arguments.unknown_option(line, ("class",))
        classes |= {arguments.one_of(word, CLASSES) for word in arguments.arguments(line, 1, arguments.UNBOUNDED)}
    return Rule(zones if words else (".",), template, frozenset(classes or {"all"}))


class Log(Plugin):
    """Writes a log line for each answered query that a `log` directive of the block selects."""

    name = "log"
    reads_nothing = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with a warning for each word of the Corefile that has no effect."""
        return Settings(warnings=options.warnings)

    def __init__(self, options: Options, environment: Environment) -> None:  # noqa: ARG002 - lines have no plugin prefix
        """Compiles the formats. The environment is not used."""
        self._rules = [
            (tuple(names.from_text(zone).lower() for zone in rule.zones), rule.classes, _compiled(rule.format))
            for rule in options.rules
        ]
        self._log = logging.getLogger("svcdns")

    def handle(self, query: Query, following: Following) -> Answer:
        """Returns the following plugins' answer. `observe` writes the log line later."""
        return following(query)

    def observe(self, query: Query, reply: Reply, size: int, seconds: float) -> None:
        """Writes the log line of one query.

        `size` is the reply's length in octets. `seconds` is the time from the query's arrival to the reply.
        """
        for zones, classes, line in self._rules:
            if any(names.is_within(query.key, zone) for zone in zones):
                if "all" in classes or class_of(query, reply) in classes:
                    self._log.info("%s", line(_Answered(query, reply, size, seconds)))
                return


@dataclass(frozen=True, slots=True)
class _Answered:
    query: Query
    reply: Reply
    size: int
    seconds: float


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _flags(reply: Reply) -> str:
    bits = reply.flags | QR
    pairs = ((QR, "qr"), (AA, "aa"), (TC, "tc"), (RD, "rd"), (RA, "ra"), (Z, "z"), (AD, "ad"), (CD, "cd"))
    return ",".join(name for bit, name in pairs if bits & bit)


def _buffer_size(query: Query) -> int:
    if query.client.protocol == "tcp":
        return 65535
    return max(query.edns.size, 512) if query.edns is not None else 512


_FIELDS: Final[dict[str, Callable[[_Answered], str]]] = {
    "{type}": lambda a: type_text(a.query.rtype),
    "{class}": lambda a: class_text(a.query.rclass),
    "{name}": lambda a: names.to_text(a.query.key),
    "{proto}": lambda a: a.query.client.protocol,
    "{remote}": lambda a: _host(a.query.client.address),
    "{local}": lambda a: _host(a.query.client.local_address),
    "{port}": lambda a: str(a.query.client.port),
    "{size}": lambda a: str(a.query.size),
    "{rsize}": lambda a: str(a.size),
    "{duration}": lambda a: f"{a.seconds:.9f}s",
    "{rcode}": lambda a: rcode_text(a.reply.rcode),
    "{>rflags}": lambda a: _flags(a.reply),
    "{>id}": lambda a: str(a.query.ident),
    "{>opcode}": lambda a: str(a.query.opcode),
    "{>do}": lambda a: "true" if a.query.dnssec_ok else "false",
    "{>bufsize}": lambda a: str(_buffer_size(a.query)),
}
_TYPES: Final = {
    MessageType.NOERROR: "NOERROR", MessageType.NXDOMAIN: "NXDOMAIN", MessageType.SERVERERROR: "SERVERERROR",
    MessageType.NODATA: "NODATA", MessageType.DELEGATION: "DELEGATION", MessageType.META: "META",
    MessageType.UPDATE: "UPDATE", MessageType.OTHERERROR: "OTHERERROR",
}  # fmt: skip
_OF_THE_REPLY: Final[dict[str, Callable[[_Answered], str]]] = {
    "forward/upstream": lambda a: a.reply.source,
    "log/class": lambda a: class_of(a.query, a.reply),
    "log/type": lambda a: _TYPES.get(classify(a.query, a.reply), ""),
}
"""Metadata that are known when the reply is there."""
_PLACEHOLDER: Final = re.compile("|".join(re.escape(field) for field in _FIELDS) + r"|\{/[^}]+\}")


def _compiled(template: str) -> Callable[[_Answered], str]:
    """Returns a function that fills in the format `template`.

    An unknown placeholder stays as it is. Metadata are written as `-`.
    """
    parts: list[Callable[[_Answered], str]] = []
    at = 0
    for found in _PLACEHOLDER.finditer(template):
        parts.append(_constant(template[at : found.start()]))
        parts.append(_FIELDS.get(found[0]) or _metadata(found[0][2:-1]))
        at = found.end()
    parts.append(_constant(template[at:]))
    return lambda answered: "".join(part(answered) for part in parts)


def _metadata(label: str) -> Callable[[_Answered], str]:
    own = _OF_THE_REPLY.get(label)

    def value(answered: _Answered) -> str:
        if answered.query.collected is None:
            return "-"
        return (answered.query.metadata(label) if own is None else own(answered)) or "-"

    return value


def _constant(text: str) -> Callable[[_Answered], str]:
    return lambda _: text


PLUGIN: Final = Log
