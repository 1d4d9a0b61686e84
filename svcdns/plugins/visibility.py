"""`visibility`: which clients may see which Services of the cluster (docs/plugins/visibility.md).

The plugin identifies the client by its address, and adds to the query what the client may see (`Query.visibility`).
*kubernetes*, *k8s_external* and *transfer* treat all other Services as nonexistent. A client is identified if exactly
one Pod has its address, and this Pod does not use the network of its node.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Protocol

import msgspec

from svcdns.cluster.changes import Dependency
from svcdns.cluster.index import Index
from svcdns.cluster.objects import Pod
from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Token
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.contract import Following, Plugin, then
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.networks import Network, Networks, NetworkTextError, packed
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import CacheScope, Increment, Reply
from svcdns.plugin_api.visibility import POD_LABELS, SEE
from svcdns.sources.label_selectors import check_label_selector, matcher
from svcdns.telemetry.counters import Family, MetricKind

RULES: Final = ("own", "shared", "allow", "default")
CLIENTS: Final = ("namespace", "labels", POD_LABELS, "net")
OBJECTS: Final = ("all", "namespace", "service", "labels")


@dataclass(frozen=True, slots=True)
class Objects:
    """A part of the cluster: everything, or namespaces by name or by label selector, or single Services.

    A Service is a pair of namespace and name, in lower case.
    """

    everything: bool = False
    namespaces: frozenset[str] = frozenset()
    services: frozenset[tuple[str, str]] = frozenset()
    selector: str = ""


@dataclass(frozen=True, slots=True)
class Allowed:
    """Clients, and what they may see.

    The clients are given by namespace, by a label selector for namespaces, or by network. If `pods` is not empty, they
    are only the Pods that this label selector matches.
    """

    objects: Objects
    namespaces: frozenset[str] = frozenset()
    selector: str = ""
    networks: tuple[Network, ...] = ()
    pods: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """The rules of *visibility*. A client may see everything that one of its rules allows.

    If `own` is true, a Pod may see its own namespace. `shared` applies to all clients, and `default` to clients that
    are not identified as a Pod.
    """

    own: bool = False
    shared: tuple[Objects, ...] = ()
    allowed: tuple[Allowed, ...] = ()
    default: tuple[Objects, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's `visibility` directive. Raises CorefileError."""
    directive = arguments.once(block.directives)
    arguments.arguments(directive, 0, 0)
    if not any(other.name.text == "kubernetes" for other in block.others):
        raise CorefileError(directive.position, "the server block has no 'kubernetes', whose names visibility hides")
    own = False
    rules: dict[str, list[Objects]] = {"shared": [], "default": []}
    allowed: list[Allowed] = []
    for line in arguments.body(directive):
        arguments.no_body(line)
        match line.name.text:
            case "own":
                arguments.arguments(line, 0, 0)
                own = True
            case "allow":
                allowed.append(_allowed(line))
            case "shared" | "default" as rule:
                rules[rule].append(_objects(line, line.arguments))
            case _:
                raise arguments.unknown_option(line, RULES)
    if not (own or allowed or rules["shared"] or rules["default"]):
        raise CorefileError(directive.position, f"without a rule nobody sees a Service; {_any_of(RULES)} was expected")
    return Options(own, tuple(rules["shared"]), tuple(allowed), tuple(rules["default"]))


def _allowed(line: Directive) -> Allowed:
    words = line.arguments
    at = next((at for at, word in enumerate(words) if word.text == SEE), len(words))
    who, what = words[:at], words[at + 1 :]
    objects = Objects(everything=True) if at == len(words) else _objects(line, what)
    with_pods = next((at for at, word in enumerate(who) if word.text == POD_LABELS), len(who))
    pods = _selector(_kind(line, who[with_pods:], (POD_LABELS,))[1]) if with_pods < len(who) else ""
    if pods and not with_pods:
        return Allowed(objects, pods=pods)
    kind, rest = _kind(line, who[:with_pods], CLIENTS)
    match kind:
        case "net":
            if pods:
                raise CorefileError(
                    who[with_pods].position, f"'{POD_LABELS}' was found after 'net'; 'see' was expected"
                )
            return Allowed(objects, networks=tuple(map(_network, rest)))
        case "labels":
            return Allowed(objects, selector=_selector(rest), pods=pods)
        case _:
            return Allowed(objects, namespaces=frozenset(word.text.lower() for word in rest), pods=pods)


def _objects(line: Directive, words: Sequence[Token]) -> Objects:
    kind, rest = _kind(line, words, OBJECTS)
    match kind:
        case "all":
            return Objects(everything=True)
        case "labels":
            return Objects(selector=_selector(rest))
        case "service":
            return Objects(services=frozenset(map(_service, rest)))
        case _:
            return Objects(namespaces=frozenset(word.text.lower() for word in rest))


def _kind(line: Directive, words: Sequence[Token], kinds: Sequence[str]) -> tuple[str, Sequence[Token]]:
    """Returns the first word, which must be one of `kinds`, and the words after it. Raises CorefileError.

    There must be at least one word after the first, unless the first word is `all`.
    """
    if not words:
        raise CorefileError(line.position, f"'{line.name.text}' needs more words; {_any_of(kinds)} was expected")
    first, rest = words[0], words[1:]
    if first.text not in kinds:
        hint = arguments.nearest(first.text, kinds)
        raise CorefileError(first.position, f"'{first.text}' was found{hint}; {_any_of(kinds)} was expected")
    if first.text == "all" and rest:
        raise CorefileError(rest[0].position, f"'{rest[0].text}' was found, nothing was expected after 'all'")
    if first.text != "all" and not rest:
        raise CorefileError(first.position, f"'{first.text}' needs a word after it")
    return first.text, rest


def _any_of(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _selector(words: Sequence[Token]) -> str:
    text = " ".join(word.text for word in words)
    try:
        check_label_selector(text)
    except ValueError as error:
        raise CorefileError(words[0].position, str(error)) from None
    return text


def _service(word: Token) -> tuple[str, str]:
    namespace, slash, name = word.text.lower().partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise CorefileError(word.position, f"'{word.text}' is not a Service; NAMESPACE/NAME was expected")
    return namespace, name


def _network(word: Token) -> Network:
    try:
        return Network.from_text(word.text)
    except NetworkTextError as error:
        raise CorefileError(word.position, str(error)) from error


HIDDEN: Final = Family(
    "svcdns_visibility_hidden_total",
    MetricKind.COUNTER,
    "Queries from which a rule of visibility hid a Service or a namespace.",
    ("server",),
)


class _Cluster(Protocol):
    """The methods of the plugin *kubernetes* that this plugin calls."""

    index: Index


class _Rule:
    """The namespaces and Services that a rule allows clients to see."""

    def __init__(self, objects: Objects) -> None:
        self.everything, self.namespaces, self.services = objects.everything, objects.namespaces, objects.services
        self.selects = matcher(objects.selector) if objects.selector else None
        self.partly = frozenset(namespace for namespace, _ in objects.services)
        """The namespaces of `services`."""

    def covers(self, namespace: str, labels: Callable[[], Mapping[str, str]]) -> bool:
        """Returns True if the rule covers all Services of the namespace. `labels` returns the namespace's labels."""
        return self.everything or namespace in self.namespaces or (self.selects is not None and self.selects(labels()))


class _Sight:
    """The objects that one client may see, for one query. Implements `svcdns.plugin_api.visibility.Visibility`."""

    __slots__ = ("_covered", "_dependencies", "_index", "_rules", "_uses_labels", "hid")

    def __init__(self, index: Index, rules: Sequence[_Rule], dependencies: tuple[Dependency, ...]) -> None:
        self._index, self._rules, self._dependencies = index, rules, dependencies
        self._uses_labels = any(rule.selects is not None for rule in rules)
        self._covered: dict[str, bool] = {}
        """Decisions about namespaces. All records of a zone transfer follow the same decision."""
        self.hid = False
        """True after a Service or a namespace was hidden."""

    def shows(self, namespace: str, service: str, dependencies: list[Dependency]) -> bool:
        if self._covers(namespace, dependencies) or any((namespace, service) in rule.services for rule in self._rules):
            return True
        self.hid = True
        return False

    def shows_namespace(self, namespace: str, dependencies: list[Dependency]) -> bool:
        if self._covers(namespace, dependencies) or any(namespace in rule.partly for rule in self._rules):
            return True
        self.hid = True
        return False

    def _covers(self, namespace: str, dependencies: list[Dependency]) -> bool:
        needed = (*self._dependencies, ("namespace", namespace)) if self._uses_labels else self._dependencies
        dependencies += [one for one in needed if one not in dependencies]
        covered = self._covered.get(namespace)
        if covered is None:
            covered = any(
                rule.covers(namespace, lambda: self._index.namespace_labels(namespace)) for rule in self._rules
            )
            self._covered[namespace] = covered
        return covered


class _AllowedClients:
    """The clients of an `allow` line, and the rule that applies to them."""

    def __init__(self, allowed: Allowed) -> None:
        self.rule = _Rule(allowed.objects)
        self.namespaces = allowed.namespaces
        self.selects_pods = matcher(allowed.pods) if allowed.pods else None
        self.selects = matcher(allowed.selector) if allowed.selector else None
        self.networks = Networks(allowed.networks) if allowed.networks else None


class Visibility(Plugin):
    """Hides Services of the cluster from clients that may not see them."""

    name = "visibility"
    states_reuse = True
    client_class_dependencies = frozenset({"pod", "sync"})

    def __init__(self, options: Options, environment: Environment) -> None:
        self._own, self._environment, self._counters = options.own, environment, environment.counters
        self._shared = [_Rule(objects) for objects in options.shared]
        self._default = [_Rule(objects) for objects in options.default]
        self._allowed = [_AllowedClients(allowed) for allowed in options.allowed]
        self._networks = [allowed.networks for allowed in self._allowed if allowed.networks is not None]
        self._selectors = [allowed.selects_pods for allowed in self._allowed if allowed.selects_pods is not None]

    @cached_property
    def _index(self) -> Index:
        cluster: _Cluster = self._environment.peers("kubernetes")[0]
        return cluster.index

    def client_class(self, address: str) -> str:
        """Returns the namespace of the Pod with that address, and a digit for each line with networks or with labels of
        Pods: 1 if the client is one of these clients, else 0.

        For an unidentified client, the namespace is empty, or `?` while the Pods are not listed yet.
        """
        octets = packed(address)
        digits = "".join("1" if octets is not None and octets in networks else "0" for networks in self._networks)
        pod = self._pod_of(octets)
        if pod is None:
            return f"{'' if self._index.synced else '?'} {digits}{'0' * len(self._selectors)}"
        labels = dict(pod.labels)
        return f"{pod.namespace.lower()} {digits}{''.join('01'[selects(labels)] for selects in self._selectors)}"

    def handle(self, query: Query, following: Following) -> Answer:
        """Adds to the query what its client may see, and passes it to the next plugin.

        Counts the query if a Service was hidden from the client.
        """
        sight = self._sight(query.client.address)
        cell = self._counters.cell(HIDDEN, query.listener)

        def finished(reply: Reply) -> Reply:
            increments: tuple[Increment, ...] = reply.increments
            if sight.hid:
                self._counters.add(cell)
                increments += ((cell, 1.0),)
            return msgspec.structs.replace(
                reply, scope=max(reply.scope, CacheScope.CLIENT_CLASS), increments=increments
            )

        return then(following(query.changed(visibility=sight)), finished)

    def _sight(self, address: str) -> _Sight:
        octets = packed(address)
        pod = self._pod_of(octets)
        namespace = pod.namespace.lower() if pod is not None else ""
        labels = dict(pod.labels) if pod is not None else {}
        rules, dependencies = [*self._shared], set[Dependency]()
        if namespace and self._own:
            rules.append(_Rule(Objects(namespaces=frozenset({namespace}))))
        if not namespace and self._index.synced:  # until the Pods are listed, any client may be a Pod
            rules += self._default
        for allowed in self._allowed:
            if allowed.networks is not None:
                applies = octets is not None and octets in allowed.networks
            elif not namespace or (allowed.selects_pods is not None and not allowed.selects_pods(labels)):
                applies = False
            elif allowed.selects is not None:
                dependencies.add(("namespace", namespace))
                applies = allowed.selects(self._index.namespace_labels(namespace))
            else:
                applies = not allowed.namespaces or namespace in allowed.namespaces
            if applies:
                rules.append(allowed.rule)
        return _Sight(self._index, rules, tuple(dependencies))

    def _pod_of(self, octets: bytes | None) -> Pod | None:
        """Returns the only Pod with this address; None for an unidentified client."""
        if octets is None:
            return None
        address = socket.inet_ntop(socket.AF_INET if len(octets) == 4 else socket.AF_INET6, octets)
        pods = self._index.pods_with(address)
        return pods[0] if len(pods) == 1 and not pods[0].host_network else None


PLUGIN: Final = Visibility
