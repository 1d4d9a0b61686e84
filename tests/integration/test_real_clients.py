"""glibc, musl, Unbound and dnsdist as clients while the server reloads, is upgraded in place, and stops.

The server and its clients run twice. Each test checks a part of the results. A network namespace is needed, so the
tests need root. The tests of a client are skipped if its program is not installed. All tests are skipped if namespaces
are not permitted.
"""

from __future__ import annotations

import sys

import pytest

from bench import real_clients
from bench.lookups import Lookup
from bench.network_namespace import why_unavailable
from bench.real_clients import KINDS, KUBERNETES, LAME_DUCK, REFRESH, Run

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]  # a test may wait for a whole run
AT_ONCE = 1.5
"""Seconds for a lookup on a busy machine that waits for no time-out of a client; the shortest of these is 2.5 s."""
UPGRADE = 20.0
"""Seconds for an upgrade with busy DoT connections: two processes start, and connections have 10 s."""


def run(*events: str) -> Run:
    """Returns the lookups of all installed clients while `events` happen."""
    if reason := why_unavailable():
        pytest.skip(f"the tests with real clients are left out: {reason}")
    if reason := real_clients.missing("Unbound"):
        pytest.skip(f"the tests with real clients are left out: {reason}")
    kinds = [kind for kind in KINDS if not real_clients.missing(kind)]
    return real_clients.run([sys.executable, "-m", "svcdns"], KUBERNETES, kinds, events)


@pytest.fixture(scope="module")
def found() -> Run:
    """Returns the lookups of all clients during a reload, an upgrade and a stop."""
    return run("reload", "upgrade", "stop")


@pytest.fixture(scope="module")
def interrupted() -> Run:
    """Returns the lookups of all clients during a stop that interrupts an upgrade."""
    return run("unfinished-upgrade", "stop")


@pytest.fixture(params=["found", "interrupted"], ids=["alone", "during an upgrade"])
def stopped(request: pytest.FixtureRequest) -> Run:
    """Returns each run that ends with a stop of the server."""
    one: Run = request.getfixturevalue(request.param)
    return one


def installed(kind: str) -> str:
    """Returns `kind`, or skips the test if the client's program is not installed."""
    if reason := real_clients.missing(kind):
        pytest.skip(f"{kind} is left out: {reason}")
    return kind


@pytest.mark.parametrize("event", ["none", "reload", "upgrade"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_lookup_fails(found: Run, kind: str, event: str) -> None:
    """Each lookup gets its answer before a client's timeout."""
    lookups = found.during(installed(kind), event)
    assert len(lookups) >= 10
    assert found.failed(kind, event) == []
    assert max(lookup.seconds for lookup in lookups) < AT_ONCE


def test_busy_tls_connections_do_not_delay_an_upgrade(found: Run) -> None:
    assert found.began["stop"] - found.began["upgrade"] < UPGRADE


@pytest.mark.parametrize("kind", KINDS)
def test_no_lookup_fails_during_lame_duck(stopped: Run, kind: str) -> None:
    """The lame duck time begins at SIGTERM. New and open connections are served."""
    end = stopped.began["stop"] + LAME_DUCK
    lookups = [lookup for lookup in stopped.during(installed(kind), "stop") if lookup.began < end]
    assert len(lookups) >= 10
    assert [lookup for lookup in lookups if lookup.error] == []
    assert max(lookup.seconds for lookup in lookups) < AT_ONCE


def after_lame_duck(stopped: Run, kind: str) -> list[Lookup]:
    """Returns the lookups that began after the lame duck time. The server may not have exited yet."""
    end = stopped.began["stop"] + LAME_DUCK
    lookups = [lookup for lookup in stopped.during(installed(kind), "stop") if lookup.began >= end]
    assert len(lookups) >= 10
    return lookups


@pytest.mark.parametrize("kind", ["glibc", REFRESH])
def test_a_stopped_server_refuses_immediately(stopped: Run, kind: str) -> None:
    """A client with this name server only must not wait for a timeout. musl does not notice refusals."""
    lookups = after_lame_duck(stopped, kind)
    assert [lookup for lookup in lookups if lookup.seconds >= AT_ONCE] == []
    assert all(lookup.error for lookup in lookups if lookup.began > stopped.gone)


@pytest.mark.parametrize("kind", ["glibc, two name servers", "musl, two name servers"])
def test_the_second_name_server_answers_immediately(stopped: Run, kind: str) -> None:
    """If the first name server refuses, clients query the second one without waiting."""
    assert [lookup for lookup in after_lame_duck(stopped, kind) if lookup.error or lookup.seconds >= AT_ONCE] == []


def test_the_server_exits_soon_after_lame_duck(stopped: Run) -> None:
    assert stopped.gone - stopped.began["stop"] < LAME_DUCK + 2.0
