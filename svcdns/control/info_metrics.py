"""Metrics about the program itself: its build, plugins, Corefile, and the exits of its processes."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Final

from svcdns import __version__, plugins
from svcdns.chain.routing import Listener
from svcdns.control.configuration import Setup
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.hooks import PANICS
from svcdns.telemetry.counters import Counters, Family, MetricKind

BUILD_INFO: Final = Family(
    "coredns_build_info",
    MetricKind.GAUGE,
    "Version, revision and runtime of the program.",
    ("version", "revision", "goversion"),
)
PLUGIN_ENABLED: Final = Family(
    "coredns_plugin_enabled",
    MetricKind.GAUGE,
    "1 for each plugin of a server, zone and view.",
    ("server", "zone", "view", "name"),
)
RESTARTS: Final = Family(
    "svcdns_process_restarts_total",
    MetricKind.COUNTER,
    "Unexpected ends of processes by reason: exit, signal, or silent (killed because its heartbeat was missing).",
    ("process", "reason"),
    uniform=True,
)
HEALTH_DURATION: Final = Family(
    "coredns_health_request_duration_seconds",
    MetricKind.HISTOGRAM,
    "Seconds that the server's own requests to /health took.",
    (),
    tuple(0.00025 * 10**i for i in range(5)),
)
HEALTH_FAILURES: Final = Family(
    "coredns_health_request_failures_total", MetricKind.COUNTER, "The server's own requests to /health that failed."
)
RELOADS_FAILED: Final = Family(
    "coredns_reload_failed_total", MetricKind.COUNTER, "Reloads of a changed Corefile that failed."
)
COREFILE_VERSION: Final = Family(
    "coredns_reload_version_info", MetricKind.GAUGE, "Hash of the Corefile that was loaded last.", ("hash", "value")
)
CRASH_LOOP: Final = Family(
    "svcdns_process_crash_loop", MetricKind.GAUGE, "1 while a process keeps ending soon after its start.", ("process",)
)


def note_build(counters: Counters) -> None:
    """Sets the metric of the build, and creates the counters of rare events with the value 0."""
    counters.set(counters.cell(BUILD_INFO, *build_labels()), 1)
    counters.cell(HEALTH_DURATION)
    counters.cell(HEALTH_FAILURES)
    counters.cell(RELOADS_FAILED)
    counters.cell(PANICS)


def note_plugins(counters: Counters, setup: Setup) -> None:
    """Sets the metric coredns_plugin_enabled, by server and zone, for each block that has the plugin *prometheus*."""
    counters.clear(PLUGIN_ENABLED)
    for block, hosts in zip(setup.plans, setup.hosts, strict=True):
        if not any(settings.counts_queries for settings in block.settings.values()):
            continue
        enabled = [
            name
            for name, settings in block.settings.items()
            if settings.counts_queries or (_plugin(name).in_chain and _plugin(name).has_handler(block.options[name]))
        ]
        view = next((settings.view.name for settings in block.settings.values() if settings.view is not None), "")
        for key in block.keys:
            for host in hosts:
                server = Listener(host, key.port, key.transport).server
                for name in enabled:
                    counters.set(counters.cell(PLUGIN_ENABLED, server, key.zone, view, name), 1)


def _plugin(name: str) -> type[Plugin]:
    found: type[Plugin] = plugins.load(name).PLUGIN
    return found


def note_version(counters: Counters, setup: Setup) -> None:
    """Sets the metric with the hash of the Corefile that was loaded last."""
    counters.clear(COREFILE_VERSION)
    counters.set(counters.cell(COREFILE_VERSION, "sha512", setup.corefile.digest), 1)


def note_exits(counters: Counters, counts: Sequence[tuple[str, str, float]], loops: Sequence[str]) -> None:
    """Sets the metrics of unexpected process exits and of crash loops.

    `counts` has (process, reason, count) since the start of the program. `loops` has the processes that are in a crash
    loop.
    """
    for name, reason, count in counts:
        counters.set(counters.cell(RESTARTS, name, reason), count)
        counters.cell(CRASH_LOOP, name)
    counters.clear(CRASH_LOOP)
    for name in loops:
        counters.set(counters.cell(CRASH_LOOP, name), 1)


def build_labels() -> tuple[str, str, str]:
    """Returns the label values of BUILD_INFO: version, revision, runtime."""
    return (
        __version__,
        os.environ.get("SVCDNS_REVISION", ""),
        f"{platform.python_implementation()} {platform.python_version()}",
    )
