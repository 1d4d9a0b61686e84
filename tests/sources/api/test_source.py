"""Lists and watches against the API double: the requests, and the resulting changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from svcdns.cluster.changes import Kind, Put
from svcdns.cluster.objects import Namespace, Pod
from svcdns.cluster.watch_options import SourceError
from tests.support.api_double import (
    NAMESPACES,
    PODS,
    SERVICES,
    SLICES,
    ApiDouble,
    Fault,
    endpoint_slice,
    namespace,
    service,
)
from tests.support.followed import Followed, following, watching

WEB, API, DB = service("web", "10.96.0.1"), service("api", "10.96.0.2"), service("db")


@pytest.fixture
def api() -> Iterator[ApiDouble]:
    """Starts an API server with two Services and a Namespace."""
    with ApiDouble([namespace("default"), WEB, API], page=1) as double:
        yield double


async def test_lists_in_pages_and_watches_from_the_lists_version(
    api: ApiDouble, caplog: pytest.LogCaptureFixture
) -> None:
    """The first page is limited to one object. The watch asks for bookmarks."""
    version = api.version
    async with watching(api, caplog) as followed:
        assert followed.events() == ["begin", "+web", "+api", "complete"]
        first, second, watch = api.asked(SERVICES)
        assert first.query == {"limit": "1"}
        assert second.query == {"limit": "25", "continue": second.query["continue"]}
        assert watch.query == {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": str(version),
            "timeoutSeconds": "300",
        }
        await followed.until(lambda: api.watching(NAMESPACES) and api.watching(SLICES))
        assert api.asked(PODS) == []


async def test_received_octets_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    """The octets of lists and watches are counted before decompression."""
    with ApiDouble([service(f"service-{number}", "10.96.0.1") for number in range(300)]) as api:
        async with watching(api, caplog) as followed:
            listed = followed.observed.octets["services"]
            assert 1_000 < listed < 20_000 < len(json.dumps([service("service-1", "10.96.0.1")] * 300))
            assert len(followed.events()) == 302
            api.put(DB)
            await followed.until(lambda: "+db" in followed.events())
            assert followed.observed.octets["services"] > listed + 100


async def test_fields_that_identify_clients(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """With `clients`, Namespaces have their labels, and Pods all addresses, the use of the host network, and the
    labels with a key in `pod_labels`. A Pod that
    has ended is removed.
    """
    labelled = {"kind": "Namespace", "metadata": {"name": "team", "labels": {"a": "b"}}}
    status = {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}
    labels = {"app": "web", "hash": "1"}
    pod = {
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "team", "labels": labels},
        "status": {"phase": "Running", **status},
    }
    api.put(labelled, pod)
    kept = (("app", "web"),)
    async with watching(api, caplog, pods=True, clients=True, pod_labels=("app",)) as followed:
        await followed.until(lambda: Put(Namespace("team", labels=(("a", "b"),))) in followed.changes)
        await followed.until(lambda: Put(Pod("team", "p", "10.0.0.1", ("fd00::1",), labels=kept)) in followed.changes)
        api.put({**pod, "spec": {"hostNetwork": True}})
        changed = Put(Pod("team", "p", "10.0.0.1", ("fd00::1",), host_network=True, labels=kept))
        await followed.until(lambda: changed in followed.changes)
        api.put({**pod, "status": {"phase": "Succeeded", **status}})
        await followed.until(lambda: "-p" in followed.events(Kind.POD))


async def test_changes_arrive(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    async with watching(api, caplog) as followed:
        api.put(DB, service("web", "10.96.0.9"))
        api.delete(API)
        await followed.until(lambda: "-api" in followed.events())
        assert followed.events()[4:] == ["+db", "+web", "-api"]


async def test_bookmarks_move_the_version(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """A watch without events must not expire."""
    async with watching(api, caplog) as followed:
        api.bookmark(SERVICES)
        api.put(DB)
        await followed.until(lambda: "+db" in followed.events())
        api.bookmark(SERVICES)
        version = str(api.version)
        api.cut(SERVICES)
        await followed.until(lambda: len(api.asked(SERVICES, watch=True)) == 2)
        assert api.asked(SERVICES, watch=True)[1].query["resourceVersion"] == version


async def test_lists_events_and_bookmarks_confirm_a_kind(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """An incomplete list, and a watch that reports 410, confirm nothing."""
    followed = Followed(api, caplog)
    time = followed.time

    def age() -> float:
        return followed.source.ages()[Kind.SERVICE]

    async with following(followed):
        await followed.until(lambda: api.watching(SERVICES))
        assert age() == 0.0
        time.now += 30
        assert age() == 30.0
        api.bookmark(SERVICES)
        await followed.until(lambda: age() == 0.0)
        time.now += 30
        api.put(DB)
        await followed.until(lambda: age() == 0.0)
        time.now += 30
        api.fail(SERVICES, Fault(message="expired", in_stream=True), None, Fault(stalled=True))
        api.cut(SERVICES)
        await followed.until(lambda: followed.events().count("begin") == 2)
        assert age() == 30.0


async def test_an_event_may_come_in_several_chunks(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    async with watching(api, caplog) as followed:
        api.send(SERVICES, b'{"type":"DELETED","object":{"metadata":{"name":"web",')
        api.send(SERVICES, b'"namespace":"default","resourceVersion":"900"}}}')
        api.send(SERVICES, b"\n")
        await followed.until(lambda: "-web" in followed.events())


async def test_an_object_of_an_unknown_shape_is_left_out(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    async with watching(api, caplog) as followed:
        api.send(
            SERVICES,
            b'{"type":"ADDED","object":{"metadata":{"name":"odd","resourceVersion":"900"},"spec":{"ports":"none"}}}\n',
        )
        api.put(DB)
        await followed.until(lambda: "+db" in followed.events())
        assert any("an object of an unknown shape is left out" in line for line in followed.lines)
        assert len(api.asked(SERVICES, watch=False)) == 2


async def test_selectors_are_sent_to_the_server(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """A field selector excludes Pods that have ended."""
    options: dict[str, Any] = {"labels": "app in (a, b)", "namespace_labels": "team=x", "pods": True}
    async with watching(api, caplog, **options) as followed:
        await followed.until_listed(Kind.POD)
        await followed.until(lambda: api.watching(NAMESPACES))
        assert {request.query.get("labelSelector") for request in api.asked(SERVICES)} == {"app in (a, b)"}
        assert {request.query.get("labelSelector") for request in api.asked(NAMESPACES)} == {"team=x"}
        pods = api.asked(PODS)[0].query
        assert pods["fieldSelector"] == "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown"


async def test_a_change_has_its_trigger_time(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """An object from a list has no trigger time, because its change is old."""
    annotations = {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-02T03:04:05Z"}
    async with following(Followed(api, caplog)) as followed:
        await followed.until(lambda: api.watching(SLICES))
        api.put(endpoint_slice("db-1", "db", "10.0.0.1", annotations=annotations))
        await followed.until(lambda: followed.events(Kind.ENDPOINT_SLICE)[2:])
        assert [
            change.trigger_time for change in followed.changes if isinstance(change, Put) and change.trigger_time
        ] == [1767323045.0]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        pytest.param({"labels": "a b"}, "labels: ", id="labels"),
        pytest.param({"namespace_labels": "in (x"}, "namespace_labels: ", id="namespace labels"),
        pytest.param({"endpoint": "ftp://x"}, "endpoint: 'ftp://x' is not an http or https URL", id="endpoint"),
        pytest.param({"endpoint": "", "kubeconfig": "/nothing"}, "kubeconfig: /nothing: no such file", id="kubeconfig"),
        pytest.param({"endpoint": "https://x", "tls": ("a", "b", "c")}, "tls: cannot use c, a, b", id="tls"),
    ],
)
async def test_wrong_options_end_the_start(
    caplog: pytest.LogCaptureFixture, options: dict[str, object], error: str
) -> None:
    """The error is raised before the first connection."""
    followed = Followed(ApiDouble(), caplog, **options)  # type: ignore[arg-type]
    with pytest.raises(SourceError) as raised:
        await followed.source.configure()
    assert str(raised.value).startswith(error)
    assert "\n" not in str(raised.value)
