"""The options of `cache` (docs/behaviour/plugins.md#cache)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Final

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Token
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.environment import Block

MAX_SUCCESS_TTL: Final = 3600
MAX_DENIAL_TTL: Final = 1800
MIN_TTL: Final = 5
CAPACITY: Final = 10_000
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,100}")
LEAST_CAPACITY: Final = 1024
"""The capacity for a number that is not above 0, as in CoreDNS."""
MAX_NUMBER: Final = 2**31 - 1
GO_INT: Final = 2**63 - 1
"""The largest number that CoreDNS reads."""
MAX_SERVFAIL: Final = 300.0
MAX_STALE: Final = 7 * 86400.0
"""An entry that expired this many seconds ago is never served, whatever the Corefile states (RFC 8767 §5)."""
MAX_RECHECK: Final = 300.0
CONFIRM_AFTER: Final = 3600.0
ENVIRONMENT: Final = ("confirm_denials",)
"""Options that CoreDNS does not know. Environment variables can set them (see `svcdns.corefile.env_options`)."""
MAX_TTL: Final = 2**32 - 1
POLICIES: Final = ("prefer_positive",)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The capacity of a store in entries, and the longest and the shortest lifetime of an entry in seconds."""

    capacity: int
    longest: int
    shortest: int = MIN_TTL


@dataclass(frozen=True, slots=True)
class Prefetch:
    """When to refresh an entry before it expires.

    An entry is refreshed when `percentage` of its lifetime is left, if it had `amount` hits that were never more than
    `gap` seconds apart. With `amount` 0, no entry is refreshed before it expires.
    """

    amount: int = 0
    gap: float = 60.0
    percentage: int = 10


@dataclass(frozen=True, slots=True)
class Stale:
    """How to serve expired entries.

    - `up_to` is the number of seconds after expiry; 0 means never. `ttl` is the TTL of the records that are sent.
    - With `verify`, a refresh runs first, and the client waits for it at most `timeout` seconds (0 for no limit).
      Without `verify`, the expired entry is served while the refresh runs.
    - After a failed refresh, the next one starts after `recheck` seconds at the earliest.
    - With `prefer_positive`, a stored answer is used rather than a stored denial.
    """

    up_to: float = 0.0
    verify: bool = False
    timeout: float = 0.0
    ttl: int = 0
    recheck: float = 0.0
    prefer_positive: bool = False

    @property
    def span(self) -> int:
        """Returns the number of seconds for which entries are kept after their expiry."""
        return int(min(self.up_to, MAX_STALE))


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one cache.

    No answers are stored for names in the zones `no_success`, and no denials for names in the zones `no_denial`. A
    SERVFAIL reply is stored for `servfail` seconds. If upstreams answered a name for `confirm_after` seconds, another
    upstream must confirm its denial. With None, denials are not confirmed.
    """

    zones: tuple[str, ...]
    success: Bounds = Bounds(CAPACITY, MAX_SUCCESS_TTL)
    denial: Bounds = Bounds(CAPACITY, MAX_DENIAL_TTL)
    servfail: float = 5.0
    no_success: tuple[str, ...] = ()
    no_denial: tuple[str, ...] = ()
    keepttl: bool = False
    prefetch: Prefetch = Prefetch()
    stale: Stale = Stale()
    confirm_after: float | None = None
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's `cache` directive. Raises CorefileError."""
    directive = arguments.once(block.directives)
    words = list(directive.arguments)
    options = Options(())
    if words and _NUMBER.fullmatch(words[0].text) and int(words[0].text) <= GO_INT:
        ttl = min(arguments.integer(words.pop(0), 1, GO_INT), MAX_NUMBER)
        options = replace(options, success=Bounds(CAPACITY, ttl), denial=Bounds(CAPACITY, ttl))
    lines = arguments.body(directive)
    ignored = arguments.ignored_words(lines, {"success": 3, "denial": 3}) + arguments.ignored_zones(words)
    ignored += arguments.ignored_option_zones(lines, {"disable": 1})
    options = replace(options, zones=arguments.zones(words, block.zones), warnings=ignored)
    for line in arguments.body(directive):
        name = line.name.text
        if name not in _LINES:
            raise arguments.unknown_option(line, _LINES)
        arguments.no_body(line)
        options = replace(options, **_LINES[name](line, options))
    _check_policy(directive)
    return options


def _check_policy(directive: Directive) -> None:
    """Raises CorefileError if `serve_stale_policy` occurs twice, or if it occurs without `serve_stale`."""
    lines = {
        name: [line for line in arguments.body(directive) if line.name.text == name]
        for name in ("serve_stale", "serve_stale_policy")
    }
    policies = lines["serve_stale_policy"]
    if len(policies) > 1:
        raise CorefileError(policies[1].position, "'serve_stale_policy' may stand once, a second one was found")
    if policies and not lines["serve_stale"]:
        raise CorefileError(policies[0].position, "'serve_stale_policy' needs 'serve_stale' beside it")


def _bounds(line: Directive, before: Bounds) -> Bounds:
    words = arguments.arguments(line, 1, arguments.UNBOUNDED)
    capacity = min(arguments.integer(words[0], -GO_INT, GO_INT), MAX_NUMBER)
    out = replace(before, capacity=capacity if capacity > 0 else LEAST_CAPACITY)
    if len(words) > 1:
        out = replace(out, longest=min(arguments.integer(words[1], 1, GO_INT), MAX_NUMBER))
    if len(words) > 2:
        out = replace(out, shortest=min(arguments.integer(words[2], 0, GO_INT), MAX_NUMBER))
    return out


def _success(line: Directive, options: Options) -> dict[str, Any]:
    return {"success": _bounds(line, options.success)}


def _denial(line: Directive, options: Options) -> dict[str, Any]:
    return {"denial": _bounds(line, options.denial)}


def _servfail(line: Directive, _options: Options) -> dict[str, Any]:
    word = arguments.argument(line)
    value = arguments.duration(word)
    if not 0 <= value <= MAX_SERVFAIL:
        raise CorefileError(word.position, f"servfail '{word.text}' is out of range; 0s to 5m was expected")
    return {"servfail": value}


def _disable(line: Directive, options: Options) -> dict[str, Any]:
    words = arguments.arguments(line, 1, arguments.UNBOUNDED)
    which = arguments.one_of(words[0], ("success", "denial"))
    return {f"no_{which}": arguments.zones(words[1:], options.zones)}


def _keepttl(line: Directive, _options: Options) -> dict[str, Any]:
    arguments.arguments(line, 0, 0)
    return {"keepttl": True}


def _prefetch(line: Directive, _options: Options) -> dict[str, Any]:
    words = arguments.arguments(line, 1, 3)
    out = Prefetch(arguments.integer(words[0]))
    if len(words) > 1:
        out = replace(out, gap=_seconds(words[1]))
    if len(words) > 2:
        number = words[2].text.removesuffix("%")
        if not words[2].text.endswith("%") or not number.isdecimal() or not 10 <= int(number) <= 90:
            raise CorefileError(words[2].position, f"'{words[2].text}' is not a percentage; 10% to 90% was expected")
        out = replace(out, percentage=int(number))
    return {"prefetch": out}


def _serve_stale(line: Directive, options: Options) -> dict[str, Any]:
    words = arguments.arguments(line, 0, 5)
    stale = Stale(up_to=3600.0, prefer_positive=options.stale.prefer_positive)
    if words:
        stale = replace(stale, up_to=_seconds(words[0]))
    rest = words[2:]
    if len(words) > 1:
        mode = words[1].text.lower()
        if mode not in ("immediate", "verify"):
            raise CorefileError(
                words[1].position, f"'{words[1].text}' is unknown; one of immediate, verify was expected"
            )
        stale = replace(stale, verify=mode == "verify")
    if stale.verify and rest:
        stale, rest = replace(stale, timeout=_seconds(rest[0])), rest[1:]
    if len(rest) > 2:
        raise CorefileError(
            rest[2].position, f"'{rest[2].text}' is one word too many after 'immediate'; a TTL and a time were expected"
        )
    if rest:
        ttl = _seconds(rest[0], MAX_TTL)
        if ttl != int(ttl):
            raise CorefileError(rest[0].position, f"'{rest[0].text}' is not a TTL; whole seconds were expected")
        stale = replace(stale, ttl=int(ttl))
    if len(rest) > 1:
        stale = replace(stale, recheck=_seconds(rest[1], MAX_RECHECK))
    return {"stale": stale}


def _confirm_denials(line: Directive, _options: Options) -> dict[str, Any]:
    words = arguments.arguments(line, 0, 1)
    return {"confirm_after": _seconds(words[0]) if words else CONFIRM_AFTER}


def _policy(line: Directive, options: Options) -> dict[str, Any]:
    word = arguments.argument(line)
    if word.text.lower() not in POLICIES:
        raise CorefileError(word.position, f"'{word.text}' is unknown; {POLICIES[0]} was expected")
    return {"stale": replace(options.stale, prefer_positive=True)}


def _seconds(word: Token, most: float = float("inf")) -> float:
    value = arguments.duration(word)
    if not 0 <= value <= most:
        expected = "at least 0 was expected" if most == float("inf") else f"0s to {most:g}s was expected"
        raise CorefileError(word.position, f"'{word.text}' is out of range; {expected}")
    return value


_LINES: Final[dict[str, Any]] = {
    "success": _success,
    "denial": _denial,
    "servfail": _servfail,
    "disable": _disable,
    "keepttl": _keepttl,
    "prefetch": _prefetch,
    "serve_stale": _serve_stale,
    "serve_stale_policy": _policy,
    "confirm_denials": _confirm_denials,
}
