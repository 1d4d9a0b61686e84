"""The parser of query names (docs/behaviour/cluster-names.md#name-parsing, #zonal-names)."""

from __future__ import annotations

import pytest

from svcdns.plugins.kubernetes.qname import EMPTY, ClusterName, NoSuchNameError, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", EMPTY, id="apex"),
        pytest.param("svc", EMPTY, id="svc"),
        pytest.param("pod", EMPTY, id="pod"),
        pytest.param("n.svc", ClusterName("svc", "n"), id="namespace"),
        pytest.param("x.n.svc", ClusterName("svc", "n", "x"), id="service"),
        pytest.param("x.n.pod", ClusterName("pod", "n", "x"), id="pod name"),
        pytest.param("e.x.n.svc", ClusterName("svc", "n", "x", endpoint="e"), id="endpoint"),
        pytest.param(
            "_tcp.x.n.svc", ClusterName("svc", "n", "x", endpoint="_tcp"), id="one underscore label is an endpoint"
        ),
        pytest.param("_http._tcp.x.n.svc", ClusterName("svc", "n", "x", port="http", protocol="tcp"), id="port"),
        pytest.param(
            "http.tcp.x.n.svc", ClusterName("svc", "n", "x", port="http", protocol="tcp"), id="port without underscores"
        ),
        pytest.param("_._tcp.x.n.svc", ClusterName("svc", "n", "x", port="", protocol="tcp"), id="bare underscore"),
        pytest.param(
            "__a._b.x.n.svc", ClusterName("svc", "n", "x", port="_a", protocol="b"), id="one underscore is removed"
        ),
    ],
)
def test_ordinary_names(text: str, expected: ClusterName) -> None:
    """Labels are read from right to left: `svc` or `pod`, namespace, Service, endpoint or port."""
    assert parse(text.split(".") if text else []) == expected


@pytest.mark.parametrize("text", ["foo", "x.foo", "a.b.c.x.n.svc", "z.pin._zone.x.n.svc"])
def test_name_errors(text: str) -> None:
    """Names in unknown subtrees, and names with too many labels, do not exist."""
    with pytest.raises(NoSuchNameError):
        parse(text.split("."))


def test_multicluster_names() -> None:
    """In a multi-cluster zone, two labels without underscores are an endpoint and its cluster."""
    assert parse(["e", "c", "x", "n", "svc"], multicluster=True) == ClusterName(
        "svc", "n", "x", endpoint="e", cluster="c"
    )
    assert parse(["_p", "_t", "x", "n", "svc"], multicluster=True) == ClusterName(
        "svc", "n", "x", port="p", protocol="t"
    )


def test_zonal_names() -> None:
    """The labels left of a directive such as `pin` are the topology zone. Names with an unknown
    directive do not exist.
    """
    found = parse(["eu", "1", "pin", "_zone", "x", "n", "svc"], zonal=True)
    assert found == ClusterName("svc", "n", "x", zone="eu.1", directive="pin")
    with pytest.raises(NoSuchNameError):
        parse(["eu", "far", "_zone", "x", "n", "svc"], zonal=True)
