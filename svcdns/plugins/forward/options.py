"""The options of `forward` (spec C-forward)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from svcdns.chain.environment import Block
from svcdns.corefile import reading
from svcdns.corefile.blocks import Directive, Position, Token
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.zones import is_reverse
from svcdns.upstream.exchange import Address, shown
from svcdns.wire import names
from svcdns.wire.codes import Rcode
from svcdns.wire.errors import NameTextError

MAX_UPSTREAMS: Final = 15
POLICIES: Final = ("random", "round_robin", "sequential")
NOT_BUILT: Final = ("tls", "tls_servername", "doh_method")
LEAK_GUARDS: Final = ("count", "block", "off")
ENVIRONMENT: Final = ("leak_guard",)
"""Options that CoreDNS would refuse: they can be set by environment, see `corefile.environment`."""
REVERSE_TREES: Final = ("in-addr.arpa.", "ip6.arpa.")
RCODES: Final = {**Rcode.__members__, "NOTIMPL": int(Rcode.NOTIMP)}
DNS_PORT: Final = 53


@dataclass(frozen=True, slots=True)
class Named:
    """An upstream that is no address: the path of a file in the form of resolv.conf, or, if there is none, a host and a port.

    `host` is empty where the text can be nothing but a path.
    """

    path: str
    host: str = ""
    port: int = DNS_PORT


@dataclass(frozen=True, slots=True)
class Rule:
    """One `forward` line; times in seconds, 0 meaning none or unlimited where the option says so.

    `left_out` are the zones of a network that FROM stands for besides the first. `next`, `next_on_nodata` are the replies that the next
    line is tried for, `failover` those for which the next upstream is; `resolvers` find the hosts among the upstreams. `leak_guard` is what
    happens to names that should not leave, among them those of the `cluster_zones` that the block serves.
    """

    position: Position
    zone: str
    upstreams: tuple[Address | Named, ...]
    left_out: tuple[str, ...] = ()
    excepted: tuple[str, ...] = ()
    force_tcp: bool = False
    prefer_udp: bool = False
    expire: float = 10.0
    max_age: float = 0.0
    max_idle_conns: int = 0
    read_timeout: float = 2.0
    max_fails: int = 2
    max_connect_attempts: int = -1
    health_check: float = 0.5
    health_recursion: bool = True
    health_domain: str = "."
    policy: str = "random"
    max_concurrent: int = 0
    failfast: bool = False
    source_address: str = ""
    next: frozenset[int] = frozenset()
    next_on_nodata: bool = False
    failover: frozenset[int] = frozenset()
    resolvers: tuple[Address, ...] = ()
    leak_guard: str = "count"
    cluster_zones: tuple[str, ...] = ()

    def data_key(self, upstream: Named) -> str:
        """What the addresses of an upstream are handed to the workers under."""
        return " ".join((upstream.path, *map(shown, self.resolvers)))


@dataclass(frozen=True, slots=True)
class Options:
    """All `forward` lines of a block, tried in file order."""

    rules: tuple[Rule, ...]


def parse(block: Block) -> Options:
    """The options of the block's `forward` directives. Raises CorefileError."""
    zones = _cluster_zones(block)
    return Options(tuple(replace(_rule(directive), cluster_zones=zones) for directive in block.directives))


def _cluster_zones(block: Block) -> tuple[str, ...]:
    """The zones that `kubernetes` has in the block, without the reverse ones, whose other names are asked for elsewhere on purpose."""
    zones: list[str] = []
    for directive in block.others:
        if directive.name.text == "kubernetes":
            zones += reading.zones(directive.arguments, block.zones)
    return tuple(zone for zone in dict.fromkeys(zones) if zone not in (".", *REVERSE_TREES) and not is_reverse(zone))


def is_address(text: str) -> bool:
    """Whether it is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _rule(directive: Directive) -> Rule:
    source, *places = reading.arguments(directive, 2, reading.UNBOUNDED)
    zones = reading.zones([source])
    if not zones:
        raise CorefileError(source.position, f"unable to normalize '{source.text}'; a zone was expected")
    if len(places) > MAX_UPSTREAMS:
        raise CorefileError(places[MAX_UPSTREAMS].position, f"more than {MAX_UPSTREAMS} TOs configured: {len(places)}")
    upstreams = tuple(dict.fromkeys(_upstream(place) for place in places))
    rule = Rule(directive.position, zones[0], upstreams, zones[1:])
    for line in reading.body(directive):
        name = line.name.text
        if name in NOT_BUILT:
            raise CorefileError(line.position, f"option '{name}' of forward is not built yet; see docs/supported.md")
        if name not in _LINES:
            raise reading.unknown_option(line, (*_LINES, *NOT_BUILT))
        reading.no_body(line)
        rule = replace(rule, **_LINES[name](line, rule))
    if 0 < rule.max_age < rule.expire:
        raise CorefileError(directive.position, f"max_age ({rule.max_age:g}s) must not be less than expire ({rule.expire:g}s)")
    return rule


def _upstream(place: Token) -> Address | Named:
    scheme, separator, text = place.text.rpartition("://")
    if separator and scheme in ("tls", "https"):
        raise CorefileError(place.position, f"upstreams by {scheme}:// are not built yet; see docs/supported.md")
    if separator and scheme != "dns":
        raise CorefileError(place.position, f"'{scheme}' is not supported as a destination protocol in forward: {place.text}")
    address = _address(text)
    if address is not None:
        return address
    if "/" in text:
        return Named(text)
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, str(DNS_PORT)
    try:
        valid = bool(host) and port.isdecimal() and 0 < int(port) < 65536 and bool(names.from_text(host))
    except NameTextError:
        valid = False
    if not valid:
        raise CorefileError(place.position, f"not an IP address, file, or valid domain: '{place.text}'")
    return Named(text, host, int(port))


def _address(text: str) -> Address | None:
    """IP, IP:port, [IPv6], [IPv6]:port."""
    if is_address(text):
        return text, DNS_PORT
    host, _, port = text.rpartition(":")
    if text.startswith("[") and text.endswith("]"):
        host, port = text, str(DNS_PORT)
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    return (host, int(port)) if port.isdecimal() and 0 < int(port) < 65536 and is_address(host) else None


def _flag(name: str) -> Callable[[Directive, Rule], dict[str, Any]]:
    def read(line: Directive, _rule: Rule) -> dict[str, Any]:
        reading.arguments(line, 0, 0)
        return {name: True}

    return read


def _number(name: str) -> Callable[[Directive, Rule], dict[str, Any]]:
    return lambda line, _rule: {name: reading.integer(reading.argument(line))}


def _seconds(name: str, *, above_zero: bool = False) -> Callable[[Directive, Rule], dict[str, Any]]:
    def read(line: Directive, _rule: Rule) -> dict[str, Any]:
        word = reading.argument(line)
        value = reading.duration(word)
        if value < 0 or (above_zero and not value):
            raise CorefileError(word.position, f"{line.name.text} '{word.text}' is not {'above 0' if above_zero else 'at least 0'}")
        return {name: value}

    return read


def _except(line: Directive, rule: Rule) -> dict[str, Any]:
    return {"excepted": rule.excepted + reading.zones(reading.arguments(line, 1, reading.UNBOUNDED))}


def _policy(line: Directive, _rule: Rule) -> dict[str, Any]:
    return {"policy": reading.one_of(reading.argument(line), POLICIES)}


def _leak_guard(line: Directive, _rule: Rule) -> dict[str, Any]:
    return {"leak_guard": reading.one_of(reading.argument(line), LEAK_GUARDS)}


def _health_check(line: Directive, _rule: Rule) -> dict[str, Any]:
    words = list(reading.arguments(line, 1, 4))
    interval = reading.duration(words.pop(0))
    if interval < 0:
        raise CorefileError(line.arguments[0].position, f"health_check '{line.arguments[0].text}' is not at least 0")
    out: dict[str, Any] = {"health_check": interval}
    while words:
        word = words.pop(0)
        if reading.one_of(word, ("no_rec", "domain")) == "no_rec":
            out["health_recursion"] = False
            continue
        zones = reading.zones(words[:1])
        if not zones:
            raise CorefileError(word.position, "health_check: a name was expected behind 'domain'")
        out["health_domain"] = zones[0]
        words.pop(0)
    return out


def _source_address(line: Directive, _rule: Rule) -> dict[str, Any]:
    word = reading.argument(line)
    if not is_address(word.text):
        raise CorefileError(word.position, f"'{word.text}' is not an IP address")
    return {"source_address": word.text}


def _rcodes(name: str) -> Callable[[Directive, Rule], dict[str, Any]]:
    def read(line: Directive, rule: Rule) -> dict[str, Any]:
        found: set[int] = set(getattr(rule, name))
        for word in reading.arguments(line, 1, reading.UNBOUNDED):
            rcode = RCODES.get(word.text.upper())
            if rcode is None:
                hint = reading.nearest(word.text.upper(), RCODES)
                raise CorefileError(word.position, f"'{word.text}' is not a response code{hint}; one such as NXDOMAIN was expected")
            if name == "failover" and rcode == Rcode.NOERROR:
                raise CorefileError(word.position, "NOERROR cannot be used in failover: it is no reason to ask another upstream")
            found.add(rcode)
        return {name: frozenset(found)}

    return read


def _resolver(line: Directive, _rule: Rule) -> dict[str, Any]:
    servers = []
    for word in reading.arguments(line, 1, reading.UNBOUNDED):
        address = _address(word.text)
        if address is None:
            raise CorefileError(word.position, f"'{word.text}' is not a resolver; IP or IP:PORT was expected")
        servers.append(address)
    return {"resolvers": tuple(servers)}


_LINES: Final[dict[str, Callable[[Directive, Rule], dict[str, Any]]]] = {
    "except": _except,
    "force_tcp": _flag("force_tcp"),
    "prefer_udp": _flag("prefer_udp"),
    "expire": _seconds("expire"),
    "max_age": _seconds("max_age"),
    "max_idle_conns": _number("max_idle_conns"),
    "read_timeout": _seconds("read_timeout", above_zero=True),
    "max_fails": _number("max_fails"),
    "max_connect_attempts": _number("max_connect_attempts"),
    "health_check": _health_check,
    "policy": _policy,
    "max_concurrent": _number("max_concurrent"),
    "failfast_all_unhealthy_upstreams": _flag("failfast"),
    "source_address": _source_address,
    "next": _rcodes("next"),
    "next_on_nodata": _flag("next_on_nodata"),
    "failover": _rcodes("failover"),
    "resolver": _resolver,
    "leak_guard": _leak_guard,
}
