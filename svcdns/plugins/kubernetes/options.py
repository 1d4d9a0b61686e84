"""The options of `kubernetes`: those of CoreDNS (docs/behaviour/kubernetes.md#options), and `manifests`, `snapshot` and
`stale_after`, which CoreDNS does not have."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from svcdns.cluster.watch_options import SnapshotOptions, WatchOptions
from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Token
from svcdns.corefile.env_options import is_from_environment
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.zones import is_reverse
from svcdns.plugin_api.environment import Block
from svcdns.plugin_api.visibility import pod_selectors
from svcdns.plugins.kubernetes.metadata import client_labels
from svcdns.sources.label_selectors import label_keys

MAX_TTL: Final = 3600
_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
ENVIRONMENT: Final = ("manifests", "snapshot", "stale_after")
"""Options that are refused in a Corefile, as CoreDNS does not know them.

They can be set by environment variables, see `corefile.env_options`.
"""
_AUTHORITY: Final = re.compile(
    r"(?:[^/?#@\s]*@)?(?:\[[0-9A-Fa-f:.]+(?:%25[^\]\s]+)?\]|[^\s:/?#@\[\]<>\"%\\^`{|}]+)(?::(?P<port>[^/?#]*))?(?:[/?#]\S*)?\Z"
)
"""The part of a URL after the scheme: host, port and path (RFC 3986 §3.2)."""
_DIGITS: Final = re.compile(r"[0-9]+")
_URL: Final = "http://HOST:PORT or https://HOST:PORT"
_USED_WORDS: Final = {"endpoint": 1, "ttl": 1, "startup_timeout": 1, "ignore": 1}
"""Options that ignore further words, as in CoreDNS, and the number of words that they use."""
POD_MODES: Final = ("disabled", "insecure", "verified")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one block. Zones are text. Times are in seconds.

    The first zone that is not a reverse zone is the primary zone. If `stale_after` is infinite, answers are never
    marked as stale.
    """

    zones: tuple[str, ...]
    primary_zone: str
    watch: WatchOptions = WatchOptions()  # noqa: RUF009 - frozen
    namespaces: frozenset[str] = frozenset()
    pods: str = "disabled"
    endpoint_pod_names: bool = False
    ttl: int = 5
    noendpoints: bool = False
    zonal: bool = False
    fallthrough: tuple[str, ...] = ()
    ignore_empty_service: bool = False
    multicluster: tuple[str, ...] = ()
    startup_timeout: float = 5.0
    snapshot: SnapshotOptions | None = None
    stale_after: float = 300.0
    warnings: tuple[str, ...] = ()


def parse(block: Block) -> Options:
    """Returns the options of the block's `kubernetes` directive. Raises CorefileError."""
    directive = arguments.once(block.directives)
    zones = arguments.zones(directive.arguments, block.zones)
    forward = [zone for zone in zones if not is_reverse(zone)]
    if not forward:
        raise CorefileError(directive.position, "plugin/kubernetes: non-reverse zone name must be used")
    draft = _Draft(Options(zones, forward[0]), block)
    lines = arguments.body(directive)
    draft.set_warnings(
        arguments.ignored_zones(directive.arguments)
        + arguments.ignored_words(lines, _USED_WORDS)
        + arguments.ignored_option_zones(lines, {"fallthrough": 0, "multicluster": 0})
    )
    for line in lines:
        read = _LINES.get(line.name.text)
        if read is None:
            raise arguments.unknown_option(line, _LINES)
        if read is not _manifests:
            arguments.no_body(line)
        read(draft, line)
    return draft.finished()


class _Draft:
    """The options while they are parsed, line by line."""

    def __init__(self, options: Options, block: Block) -> None:
        self.options, self.block = options, block
        self.lines: dict[str, Directive] = {}

    def set(self, line: Directive, **values: Any) -> None:
        self.lines[line.name.text] = line
        self.options = replace(self.options, **values)

    def set_warnings(self, warnings: tuple[str, ...]) -> None:
        self.options = replace(self.options, warnings=warnings)

    def watch(self, line: Directive, **values: Any) -> None:
        self.set(line, watch=msgspec.structs.replace(self.options.watch, **values))

    def finished(self) -> Options:
        options = self.options
        if options.pods == "verified" and any(other.name.text == "metadata" for other in self.block.others):
            self.options = options = replace(
                options, watch=msgspec.structs.replace(options.watch, pod_labels=client_labels(self.block.others))
            )
        for other in self.block.others:
            if other.name.text == "visibility":
                keys = {key for selector in pod_selectors(other) for key in label_keys(selector)}
                keys.update(options.watch.pod_labels)
                watch = msgspec.structs.replace(options.watch, pods=True, clients=True, pod_labels=tuple(sorted(keys)))
                options = replace(options, watch=watch)
        if options.namespaces and options.watch.namespace_labels:
            line = self.lines["namespace_labels"]
            raise CorefileError(line.position, "namespaces and namespace_labels cannot both be set")
        if options.watch.manifests and options.snapshot is not None:
            line = self.lines["snapshot"]
            if not is_from_environment(line):
                raise CorefileError(
                    line.position, "snapshot is for a cluster with an API server; manifests are read at every start"
                )
            options = replace(options, snapshot=None)
        endpoint = options.watch.endpoint
        if endpoint and not options.watch.kubeconfig and not options.watch.manifests:
            warnings = _check_endpoint(self.lines["endpoint"].arguments[0])
            options = replace(options, warnings=options.warnings + warnings)
        if options.zonal and options.noendpoints:
            raise CorefileError(self.lines["zonal"].position, "zonal cannot be used together with noendpoints")
        for zone in options.multicluster:
            if zone not in options.zones:
                raise CorefileError(
                    self.lines["multicluster"].position,
                    f"multicluster zone '{zone}' is not one of the plugin's zones: {' '.join(options.zones)}",
                )
        return options


def _text(line: Directive) -> str:
    return " ".join(word.text for word in arguments.arguments(line, 1, arguments.UNBOUNDED))


def _endpoint(draft: _Draft, line: Directive) -> None:
    draft.watch(line, endpoint=arguments.arguments(line, 1, arguments.UNBOUNDED)[0].text)


def _check_endpoint(word: Token) -> tuple[str, ...]:
    """Returns a warning if the port is too large: CoreDNS accepts it. Raises CorefileError for an invalid URL."""
    scheme, separator, rest = word.text.partition("://")
    found = _AUTHORITY.match(rest if separator else word.text)
    if found is None or (separator and scheme not in ("http", "https")):
        raise CorefileError(word.position, f"'{word.text}' is not the URL of an API server; {_URL} was expected")
    port = found["port"]
    if port and not _DIGITS.fullmatch(port):
        raise CorefileError(
            word.position, f"'{port}' in '{word.text}' is not a port; a number up to 65535 was expected"
        )
    if port and int(port) > 65535:
        return (arguments.warning(word.position, f"{port} is not a port, so that the API server cannot be reached"),)
    return ()


def _tls(draft: _Draft, line: Directive) -> None:
    certificate, key, authority = arguments.arguments(line, 3, 3)
    draft.watch(line, tls=(certificate.text, key.text, authority.text))


def _kubeconfig(draft: _Draft, line: Directive) -> None:
    words = arguments.arguments(line, 1, 2)
    draft.watch(line, kubeconfig=words[0].text, context=words[1].text if len(words) > 1 else "")


def _manifests(draft: _Draft, line: Directive) -> None:
    words = arguments.arguments(line, 1, arguments.UNBOUNDED)
    exclude: list[str] = []
    namespace = "default"
    for option in arguments.body(line):
        arguments.no_body(option)
        if option.name.text == "exclude":
            exclude += [word.text for word in arguments.arguments(option, 1, arguments.UNBOUNDED)]
        elif option.name.text == "namespace":
            word = arguments.argument(option)
            namespace = word.text
            if not _NAMESPACE.fullmatch(namespace):
                raise CorefileError(word.position, f"a namespace (a-z, 0-9, -) was expected, not '{namespace}'")
        else:
            raise arguments.unknown_option(option, ("exclude", "namespace"))
    paths = tuple(word.text if word.text == "-" else str(Path(draft.block.root) / word.text) for word in words)
    draft.watch(line, manifests=paths, exclude=tuple(exclude), default_namespace=namespace)


def _rate(draft: _Draft, line: Directive) -> None:
    """Checks apiserver_qps, apiserver_burst and apiserver_max_inflight. As in CoreDNS, these options have no effect."""
    word = arguments.argument(line)
    try:
        good = float(word.text) >= 0 and (line.name.text == "apiserver_qps" or word.text.isdecimal())
    except ValueError:
        good = False
    if not good:
        raise CorefileError(word.position, f"'{word.text}' is not a number of at least 0")
    draft.set(line)


def _namespaces(draft: _Draft, line: Directive) -> None:
    words = arguments.arguments(line, 1, arguments.UNBOUNDED)
    draft.set(line, namespaces=draft.options.namespaces | {word.text.lower() for word in words})


_SELECTOR_PART: Final = re.compile(
    r"\s*(?:!\s*[\w./-]+|[\w./-]+(?:\s*==?\s*[\w.-]*|\s+(?:in|notin)\s*\([\w.,\s-]*\))?)\s*"
)


def _selector(line: Directive) -> str:
    """Checks a label selector, and returns it.

    As in CoreDNS, the operators `!=`, `<` and `>` are refused, although the API server accepts them.
    """
    text = _text(line)
    if not text:
        return text
    for part in re.split(r",(?![^(]*\))", text):
        if not _SELECTOR_PART.fullmatch(part):
            raise CorefileError(
                line.arguments[0].position, f"unable to parse label selector '{text}' at '{part.strip()}'"
            )
    return text


def _namespace_labels(draft: _Draft, line: Directive) -> None:
    draft.watch(line, namespace_labels=_selector(line))


def _labels(draft: _Draft, line: Directive) -> None:
    draft.watch(line, labels=_selector(line))


def _pods(draft: _Draft, line: Directive) -> None:
    mode = arguments.one_of(arguments.argument(line), POD_MODES)
    draft.watch(line, pods=mode == "verified")
    draft.set(line, pods=mode)


def _endpoint_pod_names(draft: _Draft, line: Directive) -> None:
    arguments.arguments(line, 0, 0)
    draft.watch(line, targets=True)
    draft.set(line, endpoint_pod_names=True)


def _ttl(draft: _Draft, line: Directive) -> None:
    draft.set(line, ttl=arguments.integer(arguments.arguments(line, 1, arguments.UNBOUNDED)[0], 0, MAX_TTL))


def _noendpoints(draft: _Draft, line: Directive) -> None:
    arguments.arguments(line, 0, 0)
    draft.watch(line, endpoint_slices=False)
    draft.set(line, noendpoints=True)


def _zonal(draft: _Draft, line: Directive) -> None:
    arguments.arguments(line, 0, 0)
    draft.watch(line, zones=True)
    draft.set(line, zonal=True)


def _fallthrough(draft: _Draft, line: Directive) -> None:
    draft.set(line, fallthrough=arguments.fallthrough(line))


def _ignore(draft: _Draft, line: Directive) -> None:
    if not line.arguments:
        draft.set(line)
        return
    arguments.one_of(line.arguments[0], ("empty_service",))
    draft.set(line, ignore_empty_service=True)


def _multicluster(draft: _Draft, line: Directive) -> None:
    zones = arguments.zones(line.arguments)
    draft.watch(line, multicluster=bool(zones))
    draft.set(line, multicluster=zones)


def _startup_timeout(draft: _Draft, line: Directive) -> None:
    word: Token = arguments.arguments(line, 1, arguments.UNBOUNDED)[0]
    draft.set(line, startup_timeout=arguments.duration(word))


def _snapshot(draft: _Draft, line: Directive) -> None:
    folder, *rest = arguments.arguments(line, 1, 3)
    ready = not (rest and rest[-1].text == "not_ready")
    ages = rest if ready else rest[:-1]
    if len(ages) > 1:
        raise CorefileError(ages[1].position, f"'{ages[1].text}' is unknown; not_ready was expected")
    age = _positive(ages[0]) if ages else 0.0
    draft.set(line, snapshot=SnapshotOptions(str(Path(draft.block.root) / folder.text), age, ready))


def _stale_after(draft: _Draft, line: Directive) -> None:
    word = arguments.argument(line)
    draft.set(line, stale_after=math.inf if arguments.duration(word) == 0 else _positive(word))


def _positive(word: Token) -> float:
    seconds = arguments.duration(word)
    if seconds <= 0:
        raise CorefileError(word.position, f"'{word.text}' is not above zero")
    return seconds


_LINES: Final[dict[str, Callable[[_Draft, Directive], None]]] = {
    "endpoint": _endpoint,
    "tls": _tls,
    "kubeconfig": _kubeconfig,
    "manifests": _manifests,
    "apiserver_qps": _rate,
    "apiserver_burst": _rate,
    "apiserver_max_inflight": _rate,
    "namespaces": _namespaces,
    "namespace_labels": _namespace_labels,
    "labels": _labels,
    "pods": _pods,
    "endpoint_pod_names": _endpoint_pod_names,
    "ttl": _ttl,
    "noendpoints": _noendpoints,
    "zonal": _zonal,
    "fallthrough": _fallthrough,
    "ignore": _ignore,
    "multicluster": _multicluster,
    "startup_timeout": _startup_timeout,
    "snapshot": _snapshot,
    "stale_after": _stale_after,
}
