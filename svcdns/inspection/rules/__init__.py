"""The rules of an inspection beyond the checks of a start. A rule takes a `Reading` and yields problems."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from svcdns.inspection.problem import Problem
from svcdns.inspection.reading import Reading
from svcdns.inspection.rules import caching, files, listeners, loops, patterns, reachability, signatures

Rule = Callable[[Reading], Iterator[Problem]]

RULES: tuple[Rule, ...] = (
    reachability.zones_outside_the_block,
    reachability.directives_that_no_query_reaches,
    reachability.forward_rules_that_no_query_reaches,
    reachability.blocks_without_answers,
    reachability.reverse_trees_as_cluster_zone,
    reachability.autopath_without_pods,
    listeners.pages_on_one_address,
    listeners.pages_on_a_dns_port,
    loops.upstreams_that_are_this_server,
    loops.loopback_name_servers,
    patterns.patterns_that_never_match,
    caching.settings_without_effect,
    files.files_of_plugins,
    signatures.zone_files_to_sign,
    signatures.expiring_signatures,
)


def apply(reading: Reading, rules: tuple[Rule, ...] = RULES) -> None:
    """Applies the rules to a reading, and adds the problems that they find."""
    for rule in rules:
        reading.add(*rule(reading))
