"""The options of `rrl`, with the names and defaults of the external CoreDNS plugin `rrl`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Token
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.environment import Block


class ReplyClass(IntEnum):
    """The classes of replies. Each class has its own limit of replies per second."""

    RESPONSE = 0
    NODATA = 1
    NXDOMAIN = 2
    REFERRAL = 3
    ERROR = 4


ALLOWANCES: Final = {
    "responses-per-second": ReplyClass.RESPONSE,
    "nodata-per-second": ReplyClass.NODATA,
    "nxdomains-per-second": ReplyClass.NXDOMAIN,
    "referrals-per-second": ReplyClass.REFERRAL,
    "errors-per-second": ReplyClass.ERROR,
}
KNOWN: Final = (
    "window",
    "ipv4-prefix-length",
    "ipv6-prefix-length",
    *ALLOWANCES,
    "requests-per-second",
    "slip-ratio",
    "max-table-size",
    "report-only",
)
MAX_TABLE_SIZE: Final = 100_000_000
_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the block's first `rrl` directive. Zones are text.

    `allowances` has the replies per second of an account for each class of replies; 0 means no limit. `requests` is the
    limit for the queries of a network. `window` is in seconds. Every `slip_ratio`-th reply over the limit is sent
    truncated; with 0, none is. `table_size` is the number of accounts.
    """

    zones: tuple[str, ...] = (".",)
    window: float = 15.0
    ipv4_prefix: int = 24
    ipv6_prefix: int = 56
    allowances: tuple[float, ...] = (0.0,) * len(ReplyClass)
    requests: float = 0.0
    slip_ratio: int = 0
    table_size: int = 100_000
    report_only: bool = False
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's first `rrl` directive. Raises CorefileError.

    Each further `rrl` directive of the block has no effect, and gets a warning.
    """
    directive, *others = block.directives
    values: dict[str, float] = {}
    allowances: dict[ReplyClass, float] = {}
    for line in arguments.body(directive):
        arguments.no_body(line)
        name = line.name.text
        if name == "report-only":
            arguments.arguments(line, 0, 0)
            values[name] = 1
        elif name in ALLOWANCES:
            allowances[ALLOWANCES[name]] = _rate(arguments.argument(line))
        elif name in KNOWN:
            values[name] = _value(name, arguments.argument(line))
        else:
            raise arguments.unknown_option(line, KNOWN)
    usual = allowances.get(ReplyClass.RESPONSE, 0.0)
    defaults = Options()
    return Options(
        arguments.zones(directive.arguments, block.zones),
        values.get("window", defaults.window),
        int(values.get("ipv4-prefix-length", defaults.ipv4_prefix)),
        int(values.get("ipv6-prefix-length", defaults.ipv6_prefix)),
        tuple(allowances.get(kind, usual) for kind in ReplyClass),
        values.get("requests-per-second", 0.0),
        int(values.get("slip-ratio", 0)),
        int(values.get("max-table-size", defaults.table_size)),
        "report-only" in values,
        (*arguments.ignored_zones(directive.arguments), *map(_ignored, others)),
    )


def _ignored(directive: Directive) -> str:
    return arguments.warning(directive.position, "only the first 'rrl' of a server block is used; this one is ignored")


def _value(name: str, word: Token) -> float:
    """Parses the value of an option that is neither an allowance nor `report-only`."""
    if name == "window":
        seconds = _number(word)
        if seconds <= 0:
            raise CorefileError(word.position, "window must be greater than zero")
        return seconds
    if name == "requests-per-second":
        return _rate(word)
    low, high = {
        "ipv4-prefix-length": (1, 32),
        "ipv6-prefix-length": (1, 128),
        "slip-ratio": (0, 10),
        "max-table-size": (0, MAX_TABLE_SIZE),
    }[name]
    return arguments.integer(word, low, high)


def _rate(word: Token) -> float:
    rate = _number(word)
    if rate < 0:
        raise CorefileError(word.position, f"'{word.text}' is negative; a number per second was expected")
    return rate


def _number(word: Token) -> float:
    if not _NUMBER.fullmatch(word.text):
        raise CorefileError(word.position, f"'{word.text}' is not a number")
    return float(word.text)
