"""Finds zones, directives and blocks that no query reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from svcdns import plugins
from svcdns.chain.plan import BlockPlan
from svcdns.corefile.blocks import Directive, Token
from svcdns.corefile.errors import ZoneError
from svcdns.corefile.zones import is_reverse, normalise_argument
from svcdns.inspection.problem import Problem, warning
from svcdns.inspection.reading import Reading

_REVERSE_TREES: Final = ("in-addr.arpa.", "ip6.arpa.")

_ZONE_WORDS: Final[dict[str, Callable[[Sequence[Token]], Sequence[Token]]]] = {
    "acl": lambda words: words,
    "auto": lambda words: words,
    "autopath": lambda words: words[:-1],
    "cache": lambda words: words[1:] if words and words[0].text.lstrip("+-").isdigit() else words,
    "dnssec": lambda words: words,
    "etcd": lambda words: words,
    "file": lambda words: words[1:],
    "forward": lambda words: words[:1],
    "grpc": lambda words: words[:1],
    "hosts": lambda words: words[1:],
    "k8s_external": lambda words: words,
    "kubernetes": lambda words: words,
    "log": lambda words: words[:1],
    "secondary": lambda words: words,
    "sign": lambda words: words[1:],
    "template": lambda words: words[2:],
    "transfer": lambda words: words,
}
"""For each directive with zones: the function that takes the zones from its arguments."""

_ANSWERING: Final = (
    "template", "hosts", "route53", "azure", "clouddns", "k8s_external", "kubernetes", "file", "auto", "secondary",
    "etcd", "forward", "grpc", "erratic", "whoami", "nomad", "chaos",
)  # fmt: skip
"""The plugins that make answers."""

_WHOLE_ZONE: Final = ("k8s_external", "kubernetes", "file", "auto", "secondary", "etcd")
"""The plugins that answer every query for a name in their zones, unless `fallthrough` is set."""
_NO_LINE: Final = 1 << 31
_EVERY_NAME: Final = ("whoami", "erratic")


def within(zone: str, other: str) -> bool:
    """Returns True if `zone` is equal to `other` or below it. Both are absolute and in lower case."""
    return other in (".", zone) or zone.endswith("." + other)


def _zones_of(word: Token) -> tuple[str, ...]:
    try:
        return normalise_argument(word.text)
    except ZoneError:
        return ()


def _directive_zones(directive: Directive, plan: BlockPlan) -> tuple[str, ...]:
    """Returns the zones of a directive: those in its arguments, or else those of its block."""
    take = _ZONE_WORDS.get(directive.name.text)
    named = [zone for word in (take(directive.arguments) if take else ()) for zone in _zones_of(word)]
    return tuple(named) or plan.zones


def zones_outside_the_block(reading: Reading) -> Iterator[Problem]:
    """Finds zones of directives that have no name in common with the zones of their block."""
    for plan in reading.plans:
        has_external = "k8s_external" in plan.options
        for directive in plan.directives:
            name = directive.name.text
            # k8s_external answers from the Services of kubernetes, whatever its zone is
            take = None if has_external and name == "kubernetes" else _ZONE_WORDS.get(name)
            for word in take(directive.arguments) if take else ():
                zones = _zones_of(word)
                if zones and not any(within(a, b) or within(b, a) for a in zones for b in plan.zones):
                    yield warning(
                        word.position,
                        "zone-outside-block",
                        f"no query reaches '{word.text}' here: the block serves {' '.join(plan.zones)}",
                        "move the directive to a block whose key contains the zone",
                    )


def _fallthrough(directive: Directive) -> tuple[str, ...] | None:
    """Returns the zones of the directive's option `fallthrough`, or None without this option.

    `(".",)` means all zones.
    """
    for line in directive.body or ():
        if line.name.text == "fallthrough":
            return tuple(zone for word in line.arguments for zone in _zones_of(word)) or (".",)
    return None


def _ends_at(directive: Directive, plan: BlockPlan) -> tuple[str, ...]:
    """Returns the zones for which no query reaches the plugins after this directive."""
    name = directive.name.text
    if name in _EVERY_NAME:
        return (".",)
    if name in _WHOLE_ZONE:
        zones, passed = _directive_zones(directive, plan), _fallthrough(directive)
        return tuple(zone for zone in zones if passed is None or not any(within(zone, one) for one in passed))
    if name in ("forward", "grpc"):
        options = {line.name.text for line in directive.body or ()}
        return () if options & {"except", "next", "next_on_nodata"} else _directive_zones(directive, plan)
    return ()


def directives_that_no_query_reaches(reading: Reading) -> Iterator[Problem]:
    """Finds directives that no query reaches, because an earlier plugin of the block answers every query."""
    for plan in reading.plans:
        ended: list[tuple[str, Directive]] = []
        for name in plugins.ORDER:
            if name not in _ANSWERING:
                continue
            mine = [one for one in plan.directives if one.name.text == name]
            for directive in mine:
                hidden = [
                    next((by for zone, by in ended if within(wanted, zone)), None)
                    for served in plan.zones
                    for wanted in _common(_directive_zones(directive, plan), served)
                ]
                first = hidden[0] if hidden else None
                if first is not None and all(one is not None for one in hidden):
                    yield warning(
                        directive.position,
                        "unreachable-directive",
                        f"no query reaches '{name}': '{first.name.text}' at line {first.position.line} answers "
                        f"every query before it",
                        "the order of plugins is fixed (svcdns -plugins); the order in the file has no effect",
                    )
            ended += [(zone, directive) for directive in mine for zone in _ends_at(directive, plan)]


def _common(zones: Sequence[str], served: str) -> Iterator[str]:
    """Yields the parts of `zones` that are within the zone `served`."""
    for zone in zones:
        if within(zone, served):
            yield zone
        elif within(served, zone):
            yield served


def forward_rules_that_no_query_reaches(reading: Reading) -> Iterator[Problem]:
    """Finds `forward` directives that no query reaches, because an earlier one of the block covers all their names."""
    for plan in reading.plans:
        before: list[tuple[str, Directive]] = []
        for directive in (one for one in plan.directives if one.name.text == "forward"):
            for zone in _directive_zones(directive, plan):
                first = next((one for taken, one in before if within(zone, taken)), None)
                if first is not None:
                    yield warning(
                        directive.position,
                        "unreachable-forward",
                        f"no query for {zone} reaches this 'forward': the one at line {first.position.line} is first",
                        "put the 'forward' with the longer zone first",
                    )
            before += [(zone, directive) for zone in _ends_at(directive, plan)]


def blocks_without_answers(reading: Reading) -> Iterator[Problem]:
    """Finds server blocks in which no plugin answers, so that every query fails."""
    starts = sorted(key.position.line for plan in reading.plans for key in plan.keys[:1])
    for plan in reading.plans:
        names = {directive.name.text for directive in plan.directives}
        if not plan.keys or not names.isdisjoint((*_ANSWERING, "local", "any")) or names.difference(plugins.ORDER):
            continue
        key = plan.keys[0]
        end = next((line for line in starts if line > key.position.line), _NO_LINE)
        if any(key.position.line <= problem.position.line < end for problem in reading.problems):
            continue  # what was left out may be what answers
        yield warning(
            key.position,
            "block-without-answers",
            f"no plugin of this block answers queries for {key.zone}; they get an error",
            "add for example 'forward . /etc/resolv.conf'",
        )


def reverse_trees_as_cluster_zone(reading: Reading) -> Iterator[Problem]:
    """Finds `kubernetes` directives that have only reverse zones."""
    for plan in reading.plans:
        for directive in (one for one in plan.directives if one.name.text == "kubernetes"):
            zones = _directive_zones(directive, plan)
            if zones and all(zone in _REVERSE_TREES or is_reverse(zone) for zone in zones):
                yield warning(
                    directive.position,
                    "no-cluster-zone",
                    f"'kubernetes' has no zone for the names of Services; {zones[0]} is taken for the cluster's zone",
                    f"write 'kubernetes cluster.local {' '.join(word.text for word in directive.arguments)}'",
                )


def autopath_without_pods(reading: Reading) -> Iterator[Problem]:
    """Finds `autopath @kubernetes` in a block whose `kubernetes` does not watch Pods."""
    for plan in reading.plans:
        for directive in (one for one in plan.directives if one.name.text == "autopath"):
            if not directive.arguments or directive.arguments[-1].text != "@kubernetes":
                continue
            watching = [one for one in plan.directives if one.name.text == "kubernetes"]
            modes = [
                word.text for one in watching for line in one.body or () if line.name.text == "pods"
                for word in line.arguments[:1]
            ]  # fmt: skip
            if not watching:
                yield warning(
                    directive.position, "autopath-without-kubernetes", "this block has no 'kubernetes' for 'autopath'"
                )
            elif "verified" not in modes:
                yield warning(
                    directive.position,
                    "autopath-without-pods",
                    "'autopath @kubernetes' has no effect: it needs the Pods of the cluster",
                    "write 'pods verified' in the braces of 'kubernetes'",
                )
