"""The options of *kubernetes* (docs/behaviour/kubernetes.md#options)."""

from __future__ import annotations

import math

import pytest

from svcdns.cluster.watch_options import SnapshotOptions, WatchOptions
from svcdns.corefile.errors import CorefileError
from svcdns.plugins.kubernetes import Options, parse
from tests.support import world


def read(body: str, zones: str = "cluster.local in-addr.arpa") -> Options:
    """Returns the options of a directive with this body."""
    return parse(world.block(f"kubernetes {zones} {{\n{body}\n}}", "kubernetes"))


@pytest.mark.parametrize(
    ("body", "field", "value"),
    [
        pytest.param("", "primary_zone", "cluster.local.", id="primary zone"),
        pytest.param("ttl 30", "ttl", 30, id="ttl"),
        pytest.param("pods verified", "watch", WatchOptions(pods=True), id="pods verified are watched"),
        pytest.param("endpoint http://a http://b", "watch", WatchOptions(endpoint="http://a"), id="the first endpoint"),
        pytest.param("kubeconfig F ctx", "watch", WatchOptions(kubeconfig="F", context="ctx"), id="kubeconfig"),
        pytest.param(
            "endpoint https://a\ntls c k ca",
            "watch",
            WatchOptions(endpoint="https://a", tls=("c", "k", "ca")),
            id="tls",
        ),
        pytest.param("noendpoints", "watch", WatchOptions(endpoint_slices=False), id="noendpoints"),
        pytest.param("labels a in (b, c)", "watch", WatchOptions(labels="a in (b, c)"), id="labels"),
        pytest.param("namespaces a\nnamespaces b C", "namespaces", frozenset("abc"), id="namespaces add up"),
        pytest.param("ignore", "ignore_empty_service", False, id="ignore without a word"),
        pytest.param("startup_timeout 1m", "startup_timeout", 60.0, id="startup_timeout"),
        pytest.param("fallthrough", "fallthrough", (".",), id="fallthrough"),
        pytest.param("multicluster cluster.local", "multicluster", ("cluster.local.",), id="multicluster"),
        pytest.param("snapshot /s", "snapshot", SnapshotOptions("/s"), id="snapshot"),
        pytest.param("snapshot /s 36h", "snapshot", SnapshotOptions("/s", 129600.0), id="snapshot with an age"),
        pytest.param(
            "snapshot /s not_ready", "snapshot", SnapshotOptions("/s", 0.0, ready=False), id="snapshot and readiness"
        ),
        pytest.param(
            "snapshot s 1m not_ready", "snapshot", SnapshotOptions("s", 60.0, ready=False), id="snapshot with all"
        ),
        pytest.param("", "stale_after", 300.0, id="stale_after, if left out"),
        pytest.param("stale_after 90s", "stale_after", 90.0, id="stale_after"),
        pytest.param("stale_after 0", "stale_after", math.inf, id="stale_after never"),
        pytest.param(
            "manifests a {\nexclude *.tmpl.yaml charts\nexclude b\nnamespace prod\n}",
            "watch",
            WatchOptions(manifests=("a",), exclude=("*.tmpl.yaml", "charts", "b"), default_namespace="prod"),
            id="manifests-with-options",
        ),
        pytest.param("manifests a b/c", "watch", WatchOptions(manifests=("a", "b/c")), id="manifests"),
        pytest.param(
            "apiserver_qps 1.5\napiserver_burst 3\napiserver_max_inflight 0", "ttl", 5, id="rates are accepted"
        ),
    ],
)
def test_options(body: str, field: str, value: object) -> None:
    assert getattr(read(body), field) == value


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(
            "ttl 3601", "Corefile:3:5 - Error during parsing: 3601 is out of range; 0 to 3600 was expected", id="ttl"
        ),
        pytest.param("pods some", "'some' is unknown; one of disabled, insecure, verified was expected", id="pods"),
        pytest.param("tls a b", "Wrong argument count or unexpected line ending after 'b'", id="tls"),
        pytest.param("resyncperiod 5m", "unknown property 'resyncperiod'", id="an option of old versions"),
        pytest.param("fallthru", "unknown property 'fallthru' (did you mean 'fallthrough'?)", id="similar"),
        pytest.param(
            "namespaces a\nnamespace_labels b=c", "namespaces and namespace_labels cannot both be set", id="both"
        ),
        pytest.param("endpoint http://a:http", "'http' in 'http://a:http' is not a port", id="a port by name"),
        pytest.param("endpoint a:http", "'http' in 'a:http' is not a port", id="a port by name without a scheme"),
        pytest.param("endpoint https://[::1", "'https://[::1' is not the URL of an API server", id="bracket"),
        pytest.param("endpoint https://", "'https://' is not the URL of an API server", id="no host"),
        pytest.param("endpoint ftp://a", "'ftp://a' is not the URL of an API server", id="scheme"),
        pytest.param("endpoint http://%zz", "'http://%zz' is not the URL of an API server", id="bad escape"),
        pytest.param('endpoint "http://a b"', "'http://a b' is not the URL of an API server", id="space"),
        pytest.param("zonal\nnoendpoints", "zonal cannot be used together with noendpoints", id="zonal"),
        pytest.param(
            "multicluster x.y", "multicluster zone 'x.y.' is not one of the plugin's zones", id="multicluster"
        ),
        pytest.param("labels a!=b", "unable to parse label selector 'a!=b'", id="inequality"),
        pytest.param("labels a b", "unable to parse label selector 'a b'", id="selector"),
        pytest.param("ignore all", "'all' is unknown; one of empty_service was expected", id="ignore"),
        pytest.param("snapshot", "Wrong argument count or unexpected line ending after 'snapshot'", id="snapshot"),
        pytest.param(
            "snapshot /s soon", "Corefile:3:13 - Error during parsing: 'soon' is not a duration", id="snapshot age"
        ),
        pytest.param("snapshot /s -1h", "'-1h' is not above zero", id="snapshot age below zero"),
        pytest.param(
            "snapshot /s 1h ready",
            "Corefile:3:16 - Error during parsing: 'ready' is unknown; not_ready was expected",
            id="word",
        ),
        pytest.param(
            "snapshot /s\nmanifests a",
            "Corefile:3:1 - Error during parsing: snapshot is for a cluster with an API server",
            id="manifests",
        ),
        pytest.param("manifests a {\nexclude\n}", "Wrong argument count", id="exclude nothing"),
        pytest.param(
            "manifests a {\nnamespace A_b\n}", "Corefile:4:11 - Error during parsing: a namespace (a-z,", id="namespace"
        ),
        pytest.param("manifests a {\nexcludes b\n}", "unknown property 'excludes'", id="option of manifests"),
        pytest.param("stale_after -1s", "'-1s' is not above zero", id="stale_after"),
        pytest.param("apiserver_qps -1", "'-1' is not a number of at least 0", id="rate"),
    ],
)
def test_rejected_directives(body: str, message: str) -> None:
    with pytest.raises(CorefileError) as caught:
        read(body)
    assert message in str(caught.value)


def test_at_least_one_zone_is_not_a_reverse_zone() -> None:
    """PTR records point into a zone that is not a reverse zone."""
    with pytest.raises(CorefileError, match="non-reverse zone name must be used"):
        read("", "10.in-addr.arpa")


@pytest.mark.parametrize(
    ("zones", "primary"),
    [
        pytest.param("10.in-addr.arpa cluster.local", "cluster.local.", id="a reverse zone"),
        pytest.param("in-addr.arpa cluster.local", "in-addr.arpa.", id="in-addr.arpa itself, as in CoreDNS"),
    ],
)
def test_the_primary_zone(zones: str, primary: str) -> None:
    """The primary zone is the first zone that is not a reverse zone. PTR records point into it."""
    assert read("", zones).primary_zone == primary


def test_a_port_that_is_too_large_is_a_warning() -> None:
    """CoreDNS starts with it, too. A kubeconfig is used instead of the URL."""
    assert read("endpoint http://a:99999").warnings == (
        "Corefile:3:10 - 99999 is not a port, so that the API server cannot be reached",
    )
    assert read("endpoint http://a:http\nkubeconfig k").warnings == ()
