"""Which changes increase which SOA serial (docs/behaviour/cluster-names.md#soa-serial)."""

from __future__ import annotations

import pytest

from svcdns.cluster.changes import Serials
from svcdns.cluster.objects import ClusterObject, Endpoint, EndpointSlice, Namespace, Pod, Port, Service, ServiceImport
from svcdns.control.soa_serials import after

WEB = Service("n", "web", ("10.0.0.1",), (Port("a", "TCP", 1),))
SLICE = EndpointSlice("n", "s", "web", (), (Endpoint("10.0.0.1"),))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        pytest.param(None, WEB, Serials(9, 0, 0), id="added"),
        pytest.param(WEB, None, Serials(9, 0, 0), id="removed"),
        pytest.param(None, Namespace("n"), Serials(), id="a new namespace does not"),
        pytest.param(Namespace("n"), None, Serials(), id="a removed namespace does not"),
        pytest.param(
            Namespace("n"), Namespace("n", labels=(("a", "b"),)), Serials(9, 9, 9), id="labels of a namespace"
        ),
        pytest.param(WEB, Service("n", "web", ("10.0.0.2",), WEB.ports), Serials(), id="a ClusterIP alone does not"),
        pytest.param(WEB, Service("n", "web", WEB.cluster_ips, ()), Serials(9, 0, 9), id="ports"),
        pytest.param(
            WEB,
            Service("n", "web", WEB.cluster_ips, WEB.ports, None, ("192.0.2.1",)),
            Serials(0, 0, 9),
            id="external address",
        ),
        pytest.param(
            SLICE, EndpointSlice("n", "s", "web", (), (Endpoint("10.0.0.2"),)), Serials(9, 0, 0), id="endpoints"
        ),
        pytest.param(
            SLICE,
            EndpointSlice("n", "s", "web", (), (Endpoint("10.0.0.1", target="p"),)),
            Serials(),
            id="a target alone does not",
        ),
        pytest.param(Pod("n", "p", "10.0.0.1"), Pod("n", "p", "10.0.0.2"), Serials(9, 0, 0), id="Pod address"),
        pytest.param(
            ServiceImport("n", "a"), ServiceImport("n", "a", True), Serials(0, 9, 0), id="imports move their own"
        ),
        pytest.param(WEB, WEB, Serials(), id="the same"),
    ],
)
def test_serials(old: ClusterObject | None, new: ClusterObject | None, expected: Serials) -> None:
    """A serial is the time of the last change that affects its zones."""
    assert after(Serials(), old, new, 9) == expected
