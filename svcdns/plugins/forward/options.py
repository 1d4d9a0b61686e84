"""The options of `forward` (docs/behaviour/plugins.md#forward)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Position
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.zones import is_reverse
from svcdns.plugin_api.environment import Block
from svcdns.plugins.forward.upstream_addresses import (
    DNS_PORT,
    NamedUpstream,
    TlsUpstream,
    address,
    is_address,
    is_name,
    port_warnings,
    upstream,
)
from svcdns.upstream.query import Address, address_text
from svcdns.wire.codes import Rcode

MAX_UPSTREAMS: Final = 15
MAX_NUMBER: Final = 2**32 - 1
POLICIES: Final = ("random", "round_robin", "sequential")
DOH_METHODS: Final = ("GET", "POST")
LEAK_GUARDS: Final = ("count", "block", "off")
REBIND_GUARDS: Final = ("count", "block", "off")
ENVIRONMENT: Final = ("leak_guard", "rebind", "rebind_allow")
"""Options that CoreDNS does not know. Environment variables can set them (see `svcdns.corefile.env_options`)."""
_ONE_WORD: Final = dict.fromkeys(
    (
        "max_fails", "max_connect_attempts", "tls_servername", "expire", "max_age", "max_idle_conns", "read_timeout",
        "doh_method", "policy", "max_concurrent", "source_address", "leak_guard",
    ),
    1,
)  # fmt: skip
REVERSE_TREES: Final = ("in-addr.arpa.", "ip6.arpa.")
RCODES: Final = {**Rcode.__members__, "NOTIMPL": int(Rcode.NOTIMP)}


@dataclass(frozen=True, slots=True)
class Rule:
    """One `forward` directive. Times are in seconds.

    - `left_out` has the reverse zones of FROM that are not forwarded: all but the first one.
    - After replies in `next` or `next_on_nodata`, the next rule answers. After response codes in `failover`, the next
      upstream is queried.
    - `resolvers` are the servers that resolve the host names of upstreams.
    - `leak_guard` states what happens to queries for names in `cluster_zones` and for names of one label.
    - `rebind` states what happens to upstream records that point into the zones of this server. With `rebind_private`,
      the same happens to private addresses. Names in `rebind_allow` and in `block_zones` are exempt.
    - `tls` has the paths of certificate, key and authorities; a path is empty if not configured.
    - `doh_method` is the method of requests to upstreams over HTTPS.
    - `server_name` is the name that certificates of upstreams must have, unless the upstream's own text states a name.
    """

    position: Position = field(compare=False)
    zone: str
    upstreams: tuple[Address | NamedUpstream | TlsUpstream, ...]
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
    rebind: str = "count"
    rebind_private: bool = False
    rebind_allow: tuple[str, ...] = ()
    block_zones: tuple[str, ...] = ()
    tls: tuple[str, str, str] = ("", "", "")
    server_name: str = ""
    doh_method: str = "POST"

    def data_key(self, upstream: NamedUpstream) -> str:
        """Returns the key of the upstream's addresses in the data that the control process sends to the workers."""
        return " ".join((upstream.path, *map(address_text, self.resolvers)))

    @property
    def tls_key(self) -> str:
        """Returns the key of the certificates in the data that the control process sends to the workers.

        The key is empty if the rule needs no certificates.
        """
        secure = any(
            isinstance(one, TlsUpstream) or (isinstance(one, NamedUpstream) and one.server_name)
            for one in self.upstreams
        )
        return f"tls {' '.join(self.tls)}" if secure or any(self.tls) else ""


@dataclass(frozen=True, slots=True)
class Options:
    """The forward rules of a block, in the order of the Corefile."""

    rules: tuple[Rule, ...]
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's `forward` directives. Raises CorefileError."""
    zones = _cluster_zones(block)
    rules = tuple(
        replace(_rule(directive, block.root), cluster_zones=zones, block_zones=block.zones)
        for directive in block.directives
    )
    return Options(rules, tuple(text for directive in block.directives for text in _warnings(directive)))


def _warnings(directive: Directive) -> tuple[str, ...]:
    """Returns a log line for each zone that is ignored, and for each port that cannot be used."""
    lines = tuple(arguments.options(directive, _ONE_WORD))
    servers = [*directive.arguments[1:]]
    servers += (word for line in lines if line.name.text == "resolver" for word in line.arguments)
    ports = tuple(text for word in servers for text in port_warnings(word))
    return ports + arguments.ignored_option_zones(lines, {"except": 0, "rebind_allow": 0})


def _cluster_zones(block: Block) -> tuple[str, ...]:
    """Returns the zones of `kubernetes` in the block, without reverse zones."""
    zones: list[str] = []
    for directive in block.others:
        if directive.name.text == "kubernetes":
            zones += arguments.zones(directive.arguments, block.zones)
    return tuple(zone for zone in dict.fromkeys(zones) if zone not in (".", *REVERSE_TREES) and not is_reverse(zone))


def _rule(directive: Directive, root: str) -> Rule:
    source, *words = arguments.arguments(directive, 2, arguments.UNBOUNDED)
    zones = arguments.zones([source])
    if not zones:
        raise CorefileError(source.position, f"unable to normalize '{source.text}'; a zone was expected")
    if len(words) > MAX_UPSTREAMS:
        raise CorefileError(words[MAX_UPSTREAMS].position, f"more than {MAX_UPSTREAMS} TOs configured: {len(words)}")
    upstreams = tuple(dict.fromkeys(upstream(word) for word in words))
    rule = Rule(directive.position, zones[0], upstreams, zones[1:])
    for line in arguments.options(directive, _ONE_WORD):
        name = line.name.text
        if name not in _LINES:
            raise arguments.unknown_option(line, _LINES)
        arguments.no_body(line)
        rule = replace(rule, **(_tls(line, root) if name == "tls" else _LINES[name](line, rule)))
    if 0 < rule.max_age < rule.expire:
        raise CorefileError(
            directive.position, f"max_age ({rule.max_age:g}s) must not be less than expire ({rule.expire:g}s)"
        )
    named = next(
        (one for one in words if "%" in one.text and one.text.startswith(("tls://", "https://", "quic://"))), None
    )
    if rule.server_name and named is not None:
        text = f"both tls_servername '{rule.server_name}' and a name of its own are given for {named.text}"
        raise CorefileError(named.position, text)
    return rule


def _flag(name: str) -> Callable[[Directive, Rule], dict[str, Any]]:
    def read(line: Directive, _rule: Rule) -> dict[str, Any]:
        arguments.arguments(line, 0, 0)
        return {name: True}

    return read


def _number(name: str) -> Callable[[Directive, Rule], dict[str, Any]]:
    return lambda line, _rule: {name: arguments.integer(arguments.argument(line), 0, MAX_NUMBER)}


def _seconds(name: str, *, above_zero: bool = False) -> Callable[[Directive, Rule], dict[str, Any]]:
    def read(line: Directive, _rule: Rule) -> dict[str, Any]:
        word = arguments.argument(line)
        value = arguments.duration(word)
        if value < 0 or (above_zero and not value):
            raise CorefileError(
                word.position, f"{line.name.text} '{word.text}' is not {'above 0' if above_zero else 'at least 0'}"
            )
        return {name: value}

    return read


def _except(line: Directive, rule: Rule) -> dict[str, Any]:
    return {"excepted": rule.excepted + arguments.zones(arguments.arguments(line, 1, arguments.UNBOUNDED))}


def _policy(line: Directive, _rule: Rule) -> dict[str, Any]:
    return {"policy": arguments.one_of(arguments.argument(line), POLICIES)}


def _doh_method(line: Directive, _rule: Rule) -> dict[str, Any]:
    return {"doh_method": arguments.one_of(arguments.argument(line), DOH_METHODS)}


def _leak_guard(line: Directive, _rule: Rule) -> dict[str, Any]:
    return {"leak_guard": arguments.one_of(arguments.argument(line), LEAK_GUARDS)}


def _rebind(line: Directive, _rule: Rule) -> dict[str, Any]:
    mode, *more = arguments.arguments(line, 1, 2)
    for word in more:
        arguments.one_of(word, ("private",))
    return {"rebind": arguments.one_of(mode, REBIND_GUARDS), "rebind_private": bool(more)}


def _rebind_allow(line: Directive, rule: Rule) -> dict[str, Any]:
    words = arguments.arguments(line, 1, arguments.UNBOUNDED)
    return {"rebind_allow": rule.rebind_allow + arguments.zones(words)}


def _health_check(line: Directive, _rule: Rule) -> dict[str, Any]:
    words = list(arguments.arguments(line, 1, 4))
    interval = arguments.duration(words.pop(0))
    if interval < 0:
        raise CorefileError(line.arguments[0].position, f"health_check '{line.arguments[0].text}' is not at least 0")
    out: dict[str, Any] = {"health_check": interval}
    while words:
        word = words.pop(0)
        if arguments.one_of(word, ("no_rec", "domain")) == "no_rec":
            out["health_recursion"] = False
            continue
        zones = arguments.zones(words[:1])
        if not zones:
            raise CorefileError(word.position, "health_check: a name was expected after 'domain'")
        out["health_domain"] = zones[0]
        words.pop(0)
    return out


def _source_address(line: Directive, _rule: Rule) -> dict[str, Any]:
    word = arguments.argument(line)
    if not is_address(word.text):
        raise CorefileError(word.position, f"'{word.text}' is not an IP address")
    return {"source_address": word.text}


def _rcodes(name: str) -> Callable[[Directive, Rule], dict[str, Any]]:
    def read(line: Directive, rule: Rule) -> dict[str, Any]:
        found: set[int] = set(getattr(rule, name))
        for word in arguments.arguments(line, 1, arguments.UNBOUNDED):
            rcode = RCODES.get(word.text.upper())
            if rcode is None:
                hint = arguments.nearest(word.text.upper(), RCODES)
                raise CorefileError(
                    word.position, f"'{word.text}' is not a response code{hint}; one such as NXDOMAIN was expected"
                )
            if name == "failover" and rcode == Rcode.NOERROR:
                raise CorefileError(
                    word.position, "NOERROR cannot be used in failover: it is no reason to query another upstream"
                )
            found.add(rcode)
        return {name: frozenset(found)}

    return read


def _resolver(line: Directive, _rule: Rule) -> dict[str, Any]:
    servers = []
    for word in arguments.arguments(line, 1, arguments.UNBOUNDED):
        found = address(word.text, DNS_PORT)
        if found is None:
            raise CorefileError(word.position, f"'{word.text}' is not a resolver; IP or IP:PORT was expected")
        servers.append(found)
    return {"resolvers": tuple(servers)}


def _tls(line: Directive, root: str) -> dict[str, Any]:
    paths = [str(Path(root) / word.text) for word in arguments.arguments(line, 0, 3)]
    authorities = paths.pop() if len(paths) in (1, 3) else ""
    certificate, key = paths or ("", "")
    return {"tls": (certificate, key, authorities)}


def _server_name(line: Directive, _rule: Rule) -> dict[str, Any]:
    word = arguments.argument(line)
    if not is_name(word.text):
        raise CorefileError(word.position, f"'{word.text}' is not a host name")
    return {"server_name": word.text}


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
    "doh_method": _doh_method,
    "max_concurrent": _number("max_concurrent"),
    "failfast_all_unhealthy_upstreams": _flag("failfast"),
    "source_address": _source_address,
    "next": _rcodes("next"),
    "next_on_nodata": _flag("next_on_nodata"),
    "failover": _rcodes("failover"),
    "resolver": _resolver,
    "leak_guard": _leak_guard,
    "rebind": _rebind,
    "rebind_allow": _rebind_allow,
    "tls": lambda line, _rule: _tls(line, ""),
    "tls_servername": _server_name,
}
