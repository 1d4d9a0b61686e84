"""The whole server after thousands of changes and every fault of the API server, compared with a newly
started server.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from svcdns.cluster.changes import Gone
from svcdns.cluster.objects import Namespace, Service
from tests.conformance.coredns.client import send_query
from tests.conformance.coredns.recorded import Answer, Query
from tests.support import clusters
from tests.support.api_double import IMPORTS, NAMESPACES, PODS, SERVICES, SLICES, ApiDouble, Fault
from tests.support.api_objects import api_object
from tests.support.server import Server, until

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(300)]

CHANGES = 10_000
PATHS = (SERVICES, NAMESPACES, SLICES, PODS, IMPORTS)
COREFILE = """
.:{port} {
    bind 127.0.0.1
    errors
    ready 127.0.0.1:{ready}
    kubernetes cluster.local in-addr.arpa ip6.arpa set.local {
        endpoint API
        pods verified
        endpoint_pod_names
        zonal
        multicluster set.local
        fallthrough in-addr.arpa ip6.arpa
    }
    cache
    loadbalance
}
"""
LAST = Service("d", "last", ("10.96.9.9",))


def test_after_ten_thousand_changes_answers_equal_those_of_a_new_server(tmp_path: Path) -> None:
    """Record order and serials may differ. Queries between the changes fill the answer table."""
    rng = Random(7)
    names = clusters.names(("cluster.local.", "set.local."))
    state: clusters.State = {}
    with ApiDouble() as api, started(tmp_path / "old", api) as old:
        for number in range(CHANGES):
            make(api, state, rng)
            if number % 25 == 0:
                query(old, rng.choice(names), rng.choice(clusters.TYPES))
            if number % 500 == 499:
                disturb(api, rng)
        for item in (Namespace("d"), LAST):
            api.put(api_object(item))
        with started(tmp_path / "new", api) as new:
            for server in (old, new):
                until("the last change", lambda: server.records("last.d.svc.cluster.local.") == ["10.96.9.9"])  # noqa: B023
            different = [(name, rtype) for name in names for rtype in clusters.TYPES if rtype != "SOA"]
            with suppress(AssertionError):
                until("the last change of every kind", lambda: not remaining_differences(different, old, new))
    assert not different


def remaining_differences(different: list[tuple[str, str]], old: Server, new: Server) -> list[tuple[str, str]]:
    """Returns the names and types in `different` whose answers still differ between the two servers."""
    different[:] = [(name, rtype) for name, rtype in different if query(old, name, rtype) != query(new, name, rtype)]
    return different


def started(folder: Path, api: ApiDouble) -> Server:
    """Returns a server that is ready."""
    folder.mkdir()
    server = Server(folder, COREFILE.replace("API", api.url))
    server.until_ready()
    return server


def make(api: ApiDouble, state: clusters.State, rng: Random) -> None:
    """Makes one random change of the cluster."""
    change = clusters.change(rng, state)
    if isinstance(change, Gone):
        api.delete(api_object(state[change.kind, change.namespace, change.name]))
    else:
        api.put(api_object(change.object))
    clusters.apply(state, change)


def disturb(api: ApiDouble, rng: Random) -> None:
    """Disturbs the API server at random: cuts or expires a watch, refuses a watch for a while, or drops the history."""
    path = rng.choice(PATHS)
    trouble = rng.randrange(4)
    if trouble == 0:
        api.cut(path)
    elif trouble == 1:
        api.expire(path)
    elif trouble == 2:
        api.fail(path, Fault(429, "slow down", {"Retry-After": "0"}), Fault())
        api.cut(path)
    else:
        api.compact()
        api.cut(path)


def query(server: Server, name: str, rtype: str) -> Answer:
    """Returns the server's answer in the form of the recorded answers."""
    return send_query(server.ports["port"], Query("", name, rtype, size=4096), "udp", 1)
