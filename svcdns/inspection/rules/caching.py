"""Finds settings of `cache` that have no effect."""

from __future__ import annotations

from collections.abc import Iterator

from svcdns.corefile.blocks import Directive
from svcdns.inspection.problem import Problem, warning
from svcdns.inspection.reading import Reading
from svcdns.inspection.rules.reachability import within
from svcdns.plugins.cache.options import Options

_SOURCES = (
    "forward",
    "grpc",
    "erratic",
    "route53",
    "azure",
    "clouddns",
    "etcd",
    "file",
    "auto",
    "secondary",
    "template",
)


def _line(directive: Directive, name: str) -> Directive:
    return next((line for line in directive.body or () if line.name.text == name), directive)


def settings_without_effect(reading: Reading) -> Iterator[Problem]:
    """Finds caches that never store a reply, and options of caches that have no effect."""
    for plan in reading.plans:
        options = plan.options.get("cache")
        directives = plan.block("cache").directives
        if not isinstance(options, Options) or not directives:
            continue
        directive = directives[0]
        covered = [
            zone for zone in options.zones
            if any(within(zone, one) for one in options.no_success) and any(within(zone, one) for one in options.no_denial)
        ]  # fmt: skip
        if options.zones and len(covered) == len(options.zones):
            text = "this 'cache' keeps nothing: answers and denials are both disabled for all its zones"
            yield warning(
                directive.position, "cache-without-effect", text, "delete the directive or the 'disable' lines"
            )
        for kind, disabled in (("success", options.no_success), ("denial", options.no_denial)):
            for zone in disabled:
                if not any(within(zone, one) or within(one, zone) for one in options.zones):
                    line = _disable(directive, kind)
                    text = f"'disable {kind}' names {zone}, which is not in a zone of this 'cache'"
                    yield warning(line.position, "cache-zone-without-effect", text)
        for kind, bounds in (("success", options.success), ("denial", options.denial)):
            if bounds.shortest > bounds.longest:
                text = f"the least TTL of '{kind}', {bounds.shortest}, is above the largest one, {bounds.longest}"
                yield warning(_line(directive, kind).position, "cache-ttl-order", text, "swap the two numbers")
        sources = {one.name.text for one in plan.directives}
        if not sources.intersection(_SOURCES) and "kubernetes" in sources:
            text = "'cache' has nothing to keep here: answers from the cluster are always made anew"
            yield warning(directive.position, "cache-without-source", text, "delete the directive")


def _disable(directive: Directive, kind: str) -> Directive:
    for line in directive.body or ():
        if line.name.text == "disable" and line.arguments and line.arguments[0].text == kind:
            return line
    return directive
