"""The plugins: their order in every chain, and the module of each directive.

- `ORDER` is the order of plugins in a chain: CoreDNS's list of directives, with the directives that only svcdns has.
- `BUILT` has the module of each directive. A module is imported when a Corefile has its directive.
- A directive that is in `ORDER` and not in `BUILT` is known, but cannot be used.
- Plugins of other packages are entry points of the group `svcdns.plugins`. Entry points are read only if a Corefile has
  a directive that is not in `BUILT`.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, Final

from svcdns.plugin_api.contract import check_plugin
from svcdns.plugin_api.errors import ContractError

GROUP: Final = "svcdns.plugins"
"""The group of entry points in which other packages register their plugins."""

ORDER: Final = (
    "root", "metadata", "geoip", "cancel", "proxyproto", "quic", "grpc_server", "https", "https3", "timeouts", "multisocket", "reload",
    "nsid", "bufsize", "bind", "debug", "trace", "ready", "health", "pprof",
    "admin", "status",  # these plugins only configure the server, so their place has no effect
    "shed",
    "prometheus",  # before errors: counts the failures that errors reports
    "errors", "traffic",
    "log",  # before cache: sees the replies from the cache too
    "dnstap", "local", "dns64", "any", "chaos",
    "loadbalance",  # before cache: shuffles each reply from the cache anew
    "tsig",
    "rewrite",  # before cache: the cache sees rewritten names
    "autopath",
    "rrl",  # an external plugin of CoreDNS, whose place is directly before acl
    "acl",  # before cache: decides also about replies from the cache
    "visibility",  # before cache: the cache keeps no reply that depends on what the client may see
    "cache", "header", "dnssec", "tls", "minimal",
    "template", "transfer", "hosts",  # before kubernetes: may answer for cluster names
    "route53", "azure", "clouddns", "k8s_external",
    "kubernetes",  # before forward: queries for cluster zones are never forwarded
    "file", "auto", "secondary", "etcd", "loop", "forward", "grpc", "erratic", "whoami", "on", "sign", "view", "nomad",
)  # fmt: skip

BUILT: Final[dict[str, str]] = {
    name: f"svcdns.plugins.{name}"
    for name in (
        "dnstap",
        "root", "reload", "bind", "debug", "trace", "ready", "health", "prometheus", "errors", "log", "loadbalance", "cache",
        "k8s_external", "kubernetes", "file", "auto", "loop", "forward", "transfer", "whoami", "multisocket",
        "acl", "autopath", "dns64", "hosts", "timeouts", "tls",
        "sign", "nsid", "bufsize", "local", "any", "chaos", "header", "minimal", "rewrite", "template",
        "visibility", "rrl", "cancel", "erratic", "on", "metadata", "view", "geoip", "proxyproto", "secondary", "shed", "traffic",
        "pprof", "admin", "status", "etcd", "tsig", "dnssec", "route53", "clouddns", "azure",
        "https", "grpc", "https3", "quic", "grpc_server", "nomad",
    )
}  # fmt: skip


def load(directive: str) -> Any:
    """Imports and returns the module of a directive.

    Raises ContractError if there is no such module, or if a plugin of another package cannot be used.
    """
    path = BUILT.get(directive)
    return _outside_module(directive) if path is None else importlib.import_module(path)


def known(directives: Collection[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Returns all directives in chain order, and the set of directives that have a module.

    `directives` are the directives of the Corefile. Plugins of other packages are included only if the Corefile has a
    directive that is not in `BUILT`. Raises ContractError.
    """
    if BUILT.keys() >= set(directives):
        return ORDER, frozenset(BUILT)
    for name in {*directives} - {*ORDER, *outside()}:
        _check_group(name)
    places = {name: load(name).PLUGIN.before for name in outside()}
    return placed(ORDER, {name: before for name, before in places.items() if name not in ORDER}), frozenset(
        BUILT
    ) | frozenset(places)


@cache
def outside() -> Mapping[str, Any]:
    """Returns the entry points of other packages' plugins, by directive.

    Raises ContractError if two plugins have the same directive.
    """
    from importlib.metadata import entry_points

    found: dict[str, Any] = {}
    for point in entry_points(group=GROUP):
        if point.name in BUILT:
            raise ContractError(
                f"the plugin '{point.name}' of {_distribution(point)} has the name of a plugin of svcdns"
            )
        if point.name in found and found[point.name].value != point.value:
            both = f"{_distribution(found[point.name])} and {_distribution(point)}"
            raise ContractError(f"two distributions have a plugin '{point.name}': {both}")
        found[point.name] = point
    return found


def _check_group(directive: str) -> None:
    """Raises ContractError if a package registers a plugin for `directive` in a group with a misspelt name."""
    from importlib.metadata import entry_points

    for point in entry_points(name=directive):
        if get_close_matches(point.group.lower(), (GROUP,), 1, 0.8):
            raise ContractError(
                f"the plugin '{directive}' of {_distribution(point)} is in the group of entry points '{point.group}'; "
                f"'{GROUP}' was expected"
            )


@cache
def _outside_module(directive: str) -> Any:
    point = outside().get(directive)
    if point is None:
        raise ContractError(f"there is no plugin '{directive}'")
    where = f"the plugin '{directive}' of {_distribution(point)}"
    try:
        module = importlib.import_module(point.value)
    except Exception as error:
        raise ContractError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error
    plugin = getattr(module, "PLUGIN", None)
    if plugin is None or not callable(getattr(module, "parse", None)):
        raise ContractError(f"{where}: the module {point.value} was expected to have PLUGIN and parse(block)")
    check_plugin(plugin)
    if plugin.name != directive:
        raise ContractError(f"{where} is named '{plugin.name}' in its class; both must be the directive")
    return module


def _distribution(point: Any) -> str:
    return "an unknown distribution" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def placed(order: Sequence[str], places: Mapping[str, str]) -> tuple[str, ...]:
    """Returns `order` with additional directives: each key of `places` is inserted before the directive that is its
    value.

    Raises ContractError if a value of `places` cannot be found.
    """
    out, left = list(order), dict(places)
    while left:
        ready = [name for name, before in left.items() if before in out]
        if not ready:
            name, before = next(iter(left.items()))
            near = get_close_matches(before, (*order, *places), 1)
            hint = f"; did you mean '{near[0]}'?" if near and near[0] != before else ""
            stated = (
                f"is to stand before '{before}', which is no other directive{hint}"
                if before
                else "states no place: set 'before'"
            )
            raise ContractError(f"plugin/{name}: it {stated}")
        for name in sorted(ready):
            out.insert(out.index(left.pop(name)), name)
    return tuple(out)
