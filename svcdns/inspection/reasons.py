"""Explains in one sentence why a query has its answer."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from svcdns.chain.plan import BlockPlan
from svcdns.corefile.blocks import Directive, Position
from svcdns.inspection.cluster_objects import Cluster, Reason
from svcdns.inspection.cluster_reasons import Target, of_cluster, of_fallthrough
from svcdns.inspection.offline import Step, Trace
from svcdns.inspection.reading import Reading
from svcdns.plugin_api.networks import packed
from svcdns.plugin_api.query import Query
from svcdns.plugins.acl import Options as AclOptions
from svcdns.plugins.acl import Rule as AclRule
from svcdns.plugins.rewrite.options import Options as RewriteOptions
from svcdns.plugins.rewrite.query_rules import QueryDraft
from svcdns.wire import names
from svcdns.wire.codes import ExtendedError, Rcode, rcode_text, type_text

_END: Final = "no next plugin found"
"""The end of the error text of a reply if the last plugin of a chain passes the query on."""


def reason(trace: Trace, reading: Reading, cluster: Cluster | None) -> Reason:
    """Returns the reason for the reply of a trace.

    `cluster` is the cluster of the server block, or None if the block has none.
    """
    name = names.to_text(trace.name)
    if trace.block < 0:
        zones = dict.fromkeys(key.zone for plan in reading.plans for key in plan.keys)
        return Reason(f"no server block serves {name}, so it is REFUSED; the blocks serve {' '.join(zones)}")
    plan = reading.plans[trace.block]
    found = _of_maker(trace, plan, cluster, partial(_of_target, trace, reading, cluster))
    found.cause += _block_by_view(trace, reading)
    found.notes += _rewrites(trace, plan)
    if trace.reply.extended == ExtendedError.STALE_ANSWER:
        found.notes.append("the state of the cluster is old: the API server has not confirmed it for long")
    return found


def _block_by_view(trace: Trace, reading: Reading) -> str:
    """Returns the words that say which server block the client gets, if a view decides that; else an empty text."""
    rivals = [plan for plan in reading.plans if any(key.zone == trace.zone for key in plan.keys)]
    if not any(plan.has_view for plan in rivals):
        return ""
    plan = reading.plans[trace.block]
    view = next((one.view.name for one in plan.settings.values() if one.view is not None), "")
    which = f"with the view '{view}'" if view else "without a view"
    return f" ({trace.client.address} gets the server block {which}, {_at(plan.keys[0].position)})"


def _at(position: Position) -> str:
    return f"{position.file}:{position.line}"


def _of_target(trace: Trace, reading: Reading, cluster: Cluster | None, target: str) -> tuple[str, bool]:
    """Returns the reason for the reply to the query that `kubernetes` sent for the target of an ExternalName.

    The text is empty if there was no such query. The second value is True if the reply is NOERROR or NXDOMAIN.
    """
    for asked in trace.self_queries:
        if asked.depth == 1 and names.to_text(asked.name).lower() == target:
            why = reason(trace.of_self_query(asked), reading, cluster if asked.block == trace.block else None)
            reply = asked.reply
            is_known = reply is not None and not reply.dropped and reply.rcode in (Rcode.NOERROR, Rcode.NXDOMAIN)
            return why.cause, is_known
    return "", True


def _of_maker(trace: Trace, plan: BlockPlan, cluster: Cluster | None, target: Target) -> Reason:
    own = [step for step in trace.steps if step.depth == 0]
    if not own:
        return Reason("the server block has no plugin that answers")
    step = own[-1]
    changed = _renamed(trace)
    prefix = "" if changed is None else f"{_rewritten(trace, plan, changed)}, and "
    passed = _passed_on(own, plan, cluster)
    if passed is None and step.plugin == "kubernetes" and cluster is not None and not trace.error.endswith(_END):
        found = of_cluster(step, cluster, target)
    else:
        cause = _of_plugin(trace, plan, step)
        found = Reason(cause) if passed is None else passed
        if passed is not None:
            found.cause = f"{passed.cause}; {cause}"
    found.cause = prefix + found.cause
    return found


def _passed_on(own: list[Step], plan: BlockPlan, cluster: Cluster | None) -> Reason | None:
    """Returns the reason why `kubernetes` passes a name of its zones on; None if it does not."""
    at = next((number for number, step in enumerate(own) if step.plugin == "kubernetes"), None)
    if at is None or cluster is None or (own[at:][1:] == [] and not _ends(own[at])):
        return None
    found = of_fallthrough(own[at], cluster)
    if found is not None:
        lines = [
            line
            for directive in plan.block("kubernetes").directives
            for line in directive.body or ()
            if line.name.text == "fallthrough"
        ]
        where = f" ({_at(lines[0].position)})" if lines else ""
        found.cause += f", and 'fallthrough'{where} passes the query on"
    return found


def _ends(step: Step) -> bool:
    return step.reply is not None and step.reply.error.endswith(_END)


def _of_plugin(trace: Trace, plan: BlockPlan, step: Step) -> str:
    """Returns the reason for a reply that the plugin of `step` made, or that is missing because it made none."""
    reply, where = trace.reply, _place(plan, step.plugin)
    if step.plugin == "acl":
        return _acl(trace, plan, step)
    if trace.error.endswith(_END):
        name = names.to_text(step.name)
        return f"{name} is SERVFAIL, because '{step.plugin}'{where} does not answer it and no plugin follows"
    if step.plugin in ("forward", "cache", "grpc"):
        return _forwarded(trace, plan, step)
    outcome = _outcome(reply.rcode, len(reply.answer), type_text(step.rtype))
    if trace.error and not reply.has_message:
        return f"{outcome} by '{step.plugin}'{where}: {trace.error}"
    return f"{outcome} by '{step.plugin}'{where}"


def _outcome(rcode: int, records: int, rtype: str) -> str:
    if rcode != Rcode.NOERROR:
        return f"answered with {rcode_text(rcode)}"
    if not records:
        return f"answered without records: the name exists, but not with the type {rtype}"
    return f"answered with {records} record{'s' if records > 1 else ''}"


def _place(plan: BlockPlan, plugin: str) -> str:
    directives = plan.block(plugin).directives
    if not directives:
        return ""
    return f" ({_at(directives[0].position)})"


# -- rewrite


def _renamed(trace: Trace) -> Step | None:
    """Returns the first step at which the query has another name or type than the client's query."""
    own = [step for step in trace.steps if step.depth == 0]
    return next((one for one in own if (one.name.lower(), one.rtype) != (trace.name.lower(), trace.rtype)), None)


def _rewritten(trace: Trace, plan: BlockPlan, changed: Step) -> str:
    position = _rewrite_rule(trace, plan)
    where = f" ({_at(position.position)})" if position is not None else ""
    before, after = names.to_text(trace.name), names.to_text(changed.name)
    if before.lower() == after.lower():
        return f"'rewrite'{where} changes the type {type_text(trace.rtype)} to {type_text(changed.rtype)}"
    return f"'rewrite'{where} changes {before} to {after}"


def _rewrite_rule(trace: Trace, plan: BlockPlan) -> Directive | None:
    """Returns the directive of the first rule that changes the query's name or type."""
    options = plan.options.get("rewrite")
    directives = plan.block("rewrite").directives
    if not isinstance(options, RewriteOptions):
        return None
    for directive, rule in zip(directives, options.rules, strict=False):
        query = Query(trace.name, trace.name.lower(), trace.rtype, 1, 0, None, trace.client, lambda _query: trace.reply)
        draft = QueryDraft(query)
        rule.apply(draft)
        if (draft.query.key, draft.query.rtype) != (query.key, query.rtype):
            return directive
    return None


def _rewrites(trace: Trace, plan: BlockPlan) -> Iterator[str]:
    changed = _renamed(trace)
    if changed is not None:
        yield _rewritten(trace, plan, changed)


# -- acl


def _acl(trace: Trace, plan: BlockPlan, step: Step) -> str:
    client, rtype = trace.client.address, type_text(step.rtype)
    what = (
        "drops"
        if trace.reply.dropped
        else "refuses"
        if trace.reply.rcode == Rcode.REFUSED
        else "empties the answer for"
    )
    line = _acl_line(trace, plan, step)
    where = f" ({_at(line.position)})" if line is not None else _place(plan, "acl")
    rule = f" ({' '.join(word.text for word in (line.name, *line.arguments))})" if line is not None else ""
    return f"'acl'{where} {what} {client}{rule} for {names.to_text(step.name)} {rtype}"


def _acl_line(trace: Trace, plan: BlockPlan, step: Step) -> Directive | None:
    """Returns the line of the `acl` directives that decides about the query."""
    options = plan.options.get("acl")
    if not isinstance(options, AclOptions):
        return None
    for directive, rule in zip(plan.block("acl").directives, options.rules, strict=False):
        if any(names.is_within(step.name.lower(), names.from_text(zone).lower()) for zone in rule.zones):
            for line, number in zip(directive.body or (), range(len(rule.policies)), strict=False):
                if _applies(rule, number, trace.client.address, step.rtype):
                    if rule.policies[number].action == "allow":
                        break
                    return line
    return None


def _applies(rule: AclRule, number: int, address: str, rtype: int) -> bool:
    policy = rule.policies[number]
    if policy.types is not None and rtype not in policy.types:
        return False
    if policy.networks is None:
        return True
    client = packed(address)
    return client is not None and any(client in network for network in policy.networks)


# -- forward


def _forwarded(trace: Trace, plan: BlockPlan, step: Step) -> str:
    rules = plan.block("forward").directives
    line = f" ({_at(rules[0].position)})" if rules else ""
    name = names.to_text(step.name)
    if trace.reply.source:
        outcome = _outcome(trace.reply.rcode, len(trace.reply.answer), type_text(step.rtype))
        return f"the upstream {trace.reply.source} {outcome.replace('answered', f'answered {name}', 1)}"
    if trace.reply.rcode == Rcode.SERVFAIL:
        servers = [word.text for word in rules[0].arguments[1:]] if rules else []
        why = trace.error or "no upstream answered"
        others = "" if len(servers) == 1 and servers[0] in why else f"; the upstreams are {' '.join(servers)}"
        return f"no upstream of 'forward'{line} answered for {name}: {why}{others}"
    outcome = _outcome(trace.reply.rcode, len(trace.reply.answer), type_text(step.rtype))
    return f"{outcome} by '{step.plugin}'{_place(plan, step.plugin)}"
