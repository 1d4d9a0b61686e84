"""The options of `cache` (spec C-cache)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from svcdns.chain.environment import Block
from svcdns.corefile import reading
from svcdns.corefile.blocks import Directive
from svcdns.corefile.errors import CorefileError

MAX_SUCCESS_TTL: Final = 3600
MAX_DENIAL_TTL: Final = 1800
MIN_TTL: Final = 5
CAPACITY: Final = 10_000
MAX_SERVFAIL: Final = 300.0
NOT_BUILT: Final = ("prefetch", "serve_stale", "serve_stale_policy")


@dataclass(frozen=True, slots=True)
class Bounds:
    """One of the two stores: entries at most, and the bounds of its lifetimes in seconds."""

    capacity: int
    longest: int
    shortest: int = MIN_TTL


@dataclass(frozen=True, slots=True)
class Options:
    """Zones are text; `no_success` and `no_denial` are those in which nothing of that class is stored; `servfail` is in seconds."""

    zones: tuple[str, ...]
    success: Bounds = Bounds(CAPACITY, MAX_SUCCESS_TTL)
    denial: Bounds = Bounds(CAPACITY, MAX_DENIAL_TTL)
    servfail: float = 5.0
    no_success: tuple[str, ...] = ()
    no_denial: tuple[str, ...] = ()
    keepttl: bool = False


def parse(block: Block) -> Options:
    """The options of the block's `cache` directive. Raises CorefileError."""
    directive = reading.once(block.directives)
    words = list(directive.arguments)
    options = Options(())
    if words and words[0].text.lstrip("-").isdecimal():
        ttl = reading.integer(words.pop(0), 1)
        options = replace(options, success=Bounds(CAPACITY, ttl), denial=Bounds(CAPACITY, ttl))
    options = replace(options, zones=reading.zones(words, block.zones))
    for line in reading.body(directive):
        name = line.name.text
        if name in NOT_BUILT:
            raise CorefileError(line.position, f"option '{name}' of cache is not built yet; see docs/supported.md")
        if name not in _LINES:
            raise reading.unknown_option(line, (*_LINES, *NOT_BUILT))
        reading.no_body(line)
        options = replace(options, **_LINES[name](line, options))
    return options


def _bounds(line: Directive, before: Bounds) -> Bounds:
    words = reading.arguments(line, 1, 3)
    out = replace(before, capacity=reading.integer(words[0], 1))
    if len(words) > 1:
        out = replace(out, longest=reading.integer(words[1], 1))
    if len(words) > 2:
        out = replace(out, shortest=reading.integer(words[2], 0))
    return out


def _success(line: Directive, options: Options) -> dict[str, Any]:
    return {"success": _bounds(line, options.success)}


def _denial(line: Directive, options: Options) -> dict[str, Any]:
    return {"denial": _bounds(line, options.denial)}


def _servfail(line: Directive, _options: Options) -> dict[str, Any]:
    word = reading.argument(line)
    value = reading.duration(word)
    if not 0 <= value <= MAX_SERVFAIL:
        raise CorefileError(word.position, f"servfail '{word.text}' is out of range; 0s to 5m was expected")
    return {"servfail": value}


def _disable(line: Directive, options: Options) -> dict[str, Any]:
    words = reading.arguments(line, 1, reading.UNBOUNDED)
    which = reading.one_of(words[0], ("success", "denial"))
    return {f"no_{which}": reading.zones(words[1:], options.zones)}


def _keepttl(line: Directive, _options: Options) -> dict[str, Any]:
    reading.arguments(line, 0, 0)
    return {"keepttl": True}


_LINES: Final[dict[str, Any]] = {
    "success": _success,
    "denial": _denial,
    "servfail": _servfail,
    "disable": _disable,
    "keepttl": _keepttl,
}
