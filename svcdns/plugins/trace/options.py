"""The options of `trace` (docs/plugins/trace.md)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive, Token
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.environment import Block

ZIPKIN, DATADOG, OTLP = "zipkin", "datadog", "otlp"
ENDPOINTS: Final = {ZIPKIN: "localhost:9411", DATADOG: "localhost:8126", OTLP: "localhost:4318"}
"""The default endpoint of each type."""
PATHS: Final = {ZIPKIN: "/api/v2/spans", DATADOG: "/v0.4/traces", OTLP: "/v1/traces"}
"""The path of the URL if the endpoint is only a host and a port."""
TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
MAX_BACKLOG: Final = 1_000_000
"""The largest backlog, in spans. A span takes about 0.5 KiB of memory."""
_WORDS: Final = {
    "every": 1, "service": 1, "client_server": 0, "datadog_analytics_rate": 0,
    "zipkin_max_backlog_size": 1, "zipkin_max_batch_size": 1, "zipkin_max_batch_interval": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Collector:
    """Where spans are sent to, and how.

    - `kind` is a key of ENDPOINTS, and `url` an `http://` or `https://` URL.
    - `service` is the name of the service that the spans belong to.
    - `backlog` is the most spans that wait. A request is sent when `batch` spans wait, or after `interval` seconds.
    - `analytics_rate` is for Datadog.
    """

    kind: str = ZIPKIN
    url: str = f"http://{ENDPOINTS[ZIPKIN]}{PATHS[ZIPKIN]}"
    service: str = "coredns"
    backlog: int = 1000
    batch: int = 100
    interval: float = 1.0
    analytics_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Options:
    """The collector, and which queries are traced: one of `every` queries, or none if `every` is 0.

    With `client_server`, the first span has the identifier of the client's span.
    """

    collector: Collector = Collector()
    every: int = 1
    client_server: bool = False


def parse(block: Block) -> Options:
    """Returns the options of the block's `trace` directives. Raises CorefileError.

    As in CoreDNS, the last endpoint is used, and options of earlier directives stay.
    """
    options = Options()
    for directive in block.directives:
        kind, url = _endpoint(arguments.arguments(directive, 0, 2))
        options = replace(options, collector=replace(options.collector, kind=kind, url=url))
        for line in arguments.body(directive):
            options = _with(options, line)
    return options


def _endpoint(words: tuple[Token, ...]) -> tuple[str, str]:
    """Returns type and URL of an endpoint."""
    kind, text = ZIPKIN, words[-1].text if words else ""
    if len(words) == 2:
        kind = words[0].text.lower()
        if kind not in ENDPOINTS:
            raise CorefileError(words[0].position, f"tracing endpoint type '{kind}' is not supported")
    text = text or ENDPOINTS[kind]
    if not text.startswith(("http://", "https://")):
        text = f"http://{text}{PATHS[kind]}"
    elif kind == DATADOG:
        text = text.rstrip("/") + PATHS[kind]
    try:
        parts = urlsplit(text)
        usable = bool(parts.hostname) and parts.port != 0 and not parts.username
    except ValueError:
        usable = False
    if not usable:
        raise CorefileError(
            words[-1].position, f"'{words[-1].text}' is not an endpoint; HOST:PORT or a URL was expected"
        )
    return kind, text


def _with(options: Options, line: Directive) -> Options:
    """Returns `options` with the changes of one line."""
    name, collector = line.name.text, options.collector
    if name not in _WORDS:
        raise arguments.unknown_option(line, _WORDS)
    words = arguments.arguments(line, _WORDS[name], 1)
    if name == "client_server":
        return replace(options, client_server=_truth(words[0]) if words else True)
    if name == "every":
        return replace(options, every=arguments.integer(words[0], 0, 2**64 - 1))
    if name == "service":
        collector = replace(collector, service=words[0].text)
    elif name == "datadog_analytics_rate":
        collector = replace(collector, analytics_rate=_rate(words[0]) if words else 0.0)
    elif name == "zipkin_max_backlog_size":
        collector = replace(collector, backlog=arguments.integer(words[0], 0, MAX_BACKLOG) or Collector().backlog)
    elif name == "zipkin_max_batch_size":
        collector = replace(collector, batch=arguments.integer(words[0], 0, MAX_BACKLOG) or Collector().batch)
    else:
        interval = arguments.duration(words[0])
        if interval < 0:
            raise CorefileError(words[0].position, f"'{words[0].text}' is negative")
        collector = replace(collector, interval=interval or Collector().interval)
    return replace(options, collector=collector)


def _truth(word: Token) -> bool:
    if word.text not in TRUE | FALSE:
        raise CorefileError(word.position, f"'{word.text}' is no truth value; true or false was expected")
    return word.text in TRUE


def _rate(word: Token) -> float:
    try:
        rate = float(word.text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        text = f"datadog analytics rate must be between 0 and 1, '{word.text}' is not supported"
        raise CorefileError(word.position, text)
    return rate
