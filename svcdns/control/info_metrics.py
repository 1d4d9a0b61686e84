"""What control notes down of the program for the metrics page: the build, the plugins, the Corefile's version, how processes ended.

The page itself is the business of `metrics`: it takes long to import, and a start that serves from a snapshot does so first.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Final

from svcdns import __version__
from svcdns.chain.routing import Listener
from svcdns.control.configuration import Setup
from svcdns.plugins import health, reload
from svcdns.telemetry.counters import Counters, Family, MetricKind

BUILD_INFO: Final = Family(
    "coredns_build_info", MetricKind.GAUGE, "What is running: version, revision and runtime.", ("version", "revision", "goversion")
)
PLUGIN_ENABLED: Final = Family(
    "coredns_plugin_enabled", MetricKind.GAUGE, "The plugins of each server, zone and view.", ("server", "zone", "view", "name")
)
RESTARTS: Final = Family(
    "svcdns_process_restarts_total",
    MetricKind.COUNTER,
    "How often a process has ended that was not told to, by reason: exit, signal, or silent (killed because it did not beat).",
    ("process", "reason"),
    uniform=True,
)
CRASH_LOOP: Final = Family(
    "svcdns_process_crash_loop", MetricKind.GAUGE, "1 while a process ends again and again soon after its start.", ("process",)
)


def note_build(counters: Counters) -> None:
    """Shows what runs, and the counters of what has not happened yet."""
    counters.set(counters.cell(BUILD_INFO, *build_labels()), 1)
    counters.cell(health.FAILURES)
    counters.cell(reload.FAILED)


def note_plugins(counters: Counters, setup: Setup) -> None:
    """Shows the plugins of each server and zone."""
    counters.clear(PLUGIN_ENABLED)
    for block, hosts in zip(setup.plans, setup.hosts, strict=True):
        for key in block.keys:
            for host in hosts:
                server = Listener(host, key.port, key.transport).server
                for name in block.options:
                    counters.set(counters.cell(PLUGIN_ENABLED, server, key.zone, "", name), 1)


def note_version(counters: Counters, setup: Setup) -> None:
    """Shows which Corefile was loaded last."""
    counters.clear(reload.VERSION)
    counters.set(counters.cell(reload.VERSION, "sha512", setup.corefile.digest), 1)


def note_endings(counters: Counters, counts: Sequence[tuple[str, str, float]], loops: Sequence[str]) -> None:
    """Shows how often processes have ended, by name and reason, since the program's start, and which of them are in a crash loop."""
    for name, reason, count in counts:
        counters.set(counters.cell(RESTARTS, name, reason), count)
        counters.cell(CRASH_LOOP, name)
    counters.clear(CRASH_LOOP)
    for name in loops:
        counters.set(counters.cell(CRASH_LOOP, name), 1)


def build_labels() -> tuple[str, str, str]:
    """The label values of BUILD_INFO."""
    return __version__, os.environ.get("SVCDNS_REVISION", ""), f"{platform.python_implementation()} {platform.python_version()}"
