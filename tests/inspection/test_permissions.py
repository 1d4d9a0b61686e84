"""The permissions that a Corefile needs at the API server."""

from __future__ import annotations

import pytest

from svcdns.cluster.watch_options import WatchOptions
from svcdns.inspection.permissions import permissions
from svcdns.sources.api.resources import watched


@pytest.mark.parametrize(
    "options",
    [
        WatchOptions(),
        WatchOptions(pods=True),
        WatchOptions(endpoint_slices=False),
        WatchOptions(multicluster=True, endpoint_slices=False),
        WatchOptions(multicluster=True, pods=True, clients=True),
    ],
)
def test_they_are_those_of_the_watched_resources(options: WatchOptions) -> None:
    needed = {f"{one.resource}.{one.group}".rstrip(".") for one in permissions([options])}
    assert needed == {resource.qualified for resource in watched(options)}


def test_manifests_need_none() -> None:
    assert permissions([WatchOptions(manifests=("k8s",))]) == ()
