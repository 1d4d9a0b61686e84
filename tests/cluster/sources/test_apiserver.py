"""Lists and watches against a double of the API server: every way that a watch can go wrong, and what is told of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from svcdns.cluster.changes import Begin, Change, Complete, Gone, Kind, Put
from svcdns.cluster.sources.api_client import TimeLimits
from svcdns.cluster.sources.apiserver import ApiServerSource
from svcdns.cluster.sources.options import SourceError, WatchOptions
from svcdns.telemetry.clock import Clock, monotonic
from tests.support.api_double import NAMESPACES, PODS, SERVICES, SLICES, ApiDouble, Fault, endpoint_slice, namespace, service

WEB, API, DB = service("web", "10.96.0.1"), service("api", "10.96.0.2"), service("db")


class Observed:
    """Requests as the metrics see them."""

    def __init__(self) -> None:
        """None yet."""
        self.codes: list[str] = []

    def request(self, verb: str, host: str, code: str, method: str, seconds: float | None) -> None:
        """One request."""
        self.codes.append(code)


class Followed:
    """A source at work, and what it has told."""

    def __init__(
        self,
        api: ApiDouble,
        caplog: pytest.LogCaptureFixture,
        limits: TimeLimits | None = None,
        clock: Clock = monotonic,
        **options: object,
    ) -> None:
        """Waiting takes no time; how long it would have taken is noted."""
        caplog.set_level(logging.INFO)
        self.changes: list[Change] = []
        self.waits: list[float] = []
        self.observed = Observed()
        self._caplog = caplog
        self.source = ApiServerSource(
            WatchOptions(**({"endpoint": api.url} | options)),  # type: ignore[arg-type]
            log=logging.getLogger("api-test"),
            observe=self.observed,
            jitter=lambda: 0.0,
            clock=clock,
            sleep=self._wait,
            limits=limits,
        )

    async def _wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)

    async def follow(self) -> None:
        """Takes changes for ever."""
        async for change in self.source.changes():
            self.changes.append(change)

    async def until(self, true: Callable[[], object]) -> None:
        """Waits for something to become true."""
        async with asyncio.timeout(10):
            while not true():
                await asyncio.sleep(0.001)

    async def until_listed(self, kind: Kind = Kind.SERVICE, times: int = 1) -> None:
        """Waits for a list to be through."""
        await self.until(lambda: self.changes.count(Complete(kind)) >= times)

    def told(self, kind: Kind = Kind.SERVICE) -> list[str]:
        """What was told of a kind, in short: `begin`, `complete`, `+name`, `-name`."""
        out = []
        for change in self.changes:
            match change:
                case Begin(kind=one) | Complete(kind=one) if one is kind:
                    out.append(type(change).__name__.lower())
                case Put(object=item) if type(item).__name__ == kind:
                    out.append(f"+{item.name}")
                case Gone(kind=one, name=name) if one is kind:
                    out.append(f"-{name}")
        return out

    @property
    def lines(self) -> list[str]:
        """The log."""
        return [record.getMessage() for record in self._caplog.records if record.name == "api-test"]


@pytest.fixture
def api() -> Iterator[ApiDouble]:
    """Two Services and a Namespace."""
    with ApiDouble([namespace("default"), WEB, API], page=1) as double:
        yield double


@contextlib.asynccontextmanager
async def following(followed: Followed) -> AsyncIterator[Followed]:
    """Follows in the background."""
    task = asyncio.create_task(followed.follow())
    try:
        yield followed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def watching(api: ApiDouble, caplog: pytest.LogCaptureFixture, **options: object) -> AsyncIterator[Followed]:
    """A source whose Services are listed and watched."""
    async with following(Followed(api, caplog, **options)) as followed:  # type: ignore[arg-type]
        await followed.until_listed()
        await followed.until(lambda: api.watching(SERVICES))
        yield followed


async def test_lists_in_pages_and_watches_from_the_lists_version(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """Pages follow each other by token; the watch asks for bookmarks, and has no time limit of ours."""
    version = api.version
    async with watching(api, caplog) as followed:
        assert followed.told() == ["begin", "+web", "+api", "complete"]
        first, second, watch = api.asked(SERVICES)
        assert (first.query, list(second.query)) == ({"limit": "500"}, ["limit", "continue"])
        assert watch.query == {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": str(version), "timeoutSeconds": "300"}
        await followed.until(lambda: api.watching(NAMESPACES) and api.watching(SLICES))
        assert api.asked(PODS) == []


async def test_tells_of_changes(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """Added, changed, deleted."""
    async with watching(api, caplog) as followed:
        api.put(DB, service("web", "10.96.0.9"))
        api.delete(API)
        await followed.until(lambda: "-api" in followed.told())
        assert followed.told()[4:] == ["+db", "+web", "-api"]


async def test_a_cut_watch_goes_on_where_it_was(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """No list; what happened meanwhile is told; nothing is said, as watches end all the time."""
    async with watching(api, caplog) as followed:
        api.put(DB)
        await followed.until(lambda: "+db" in followed.told())
        version = api.version
        api.cut(SERVICES)
        api.delete(WEB)
        await followed.until(lambda: "-web" in followed.told())
        assert len(api.asked(SERVICES, watch=False)) == 2
        assert int(api.asked(SERVICES, watch=True)[-1].query["resourceVersion"]) >= version
        assert followed.lines == []


async def test_bookmarks_move_the_version(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """So that a watch of a quiet kind does not grow too old."""
    async with watching(api, caplog) as followed:
        api.bookmark(SERVICES)
        api.put(DB)
        await followed.until(lambda: "+db" in followed.told())
        api.bookmark(SERVICES)
        version = str(api.version)
        api.cut(SERVICES)
        await followed.until(lambda: len(api.asked(SERVICES, watch=True)) == 2)
        assert api.asked(SERVICES, watch=True)[1].query["resourceVersion"] == version


@pytest.mark.parametrize("in_stream", [True, False], ids=["in the stream", "at the start"])
async def test_410_lists_anew_without_a_gap(api: ApiDouble, caplog: pytest.LogCaptureFixture, *, in_stream: bool) -> None:
    """What is gone is told by what the list does not name; nothing is taken back before."""
    async with watching(api, caplog) as followed:
        api.put(DB)
        await followed.until(lambda: "+db" in followed.told())
        api.lose(WEB)
        if in_stream:
            api.expire(SERVICES)
        else:
            api.compact()
            api.cut(SERVICES)
        await followed.until_listed(times=2)
        assert followed.told()[5:] == ["begin", "+api", "+db", "complete"]
        assert any("listing anew" in line for line in followed.lines)
        assert not any(record.levelno > logging.INFO for record in caplog.records)


async def test_what_confirms_a_kind(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """A list, an event, a bookmark; not a watch that opens only to say that it begins too late, nor a part of a list."""
    now = [100.0]
    followed = Followed(api, caplog, clock=lambda: now[0])
    age = lambda: followed.source.ages()[Kind.SERVICE]  # noqa: E731
    async with following(followed):
        await followed.until(lambda: api.watching(SERVICES))
        assert age() == 0.0
        now[0] += 30
        assert age() == 30.0
        api.bookmark(SERVICES)
        await followed.until(lambda: age() == 0.0)
        now[0] += 30
        api.put(DB)
        await followed.until(lambda: age() == 0.0)
        now[0] += 30
        api.fail(SERVICES, Fault(message="expired", in_stream=True), None, Fault(stalled=True))
        api.cut(SERVICES)
        await followed.until(lambda: followed.told().count("begin") == 2)
        assert age() == 30.0


async def test_an_expired_page_starts_the_list_over(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """From Begin."""
    api.fail(SERVICES, None, Fault(410, "the provided continue parameter is too old"))
    async with following(Followed(api, caplog)) as followed:
        await followed.until_listed()
        assert followed.told() == ["begin", "+web", "begin", "+web", "+api", "complete"]


async def test_a_page_that_fails_is_asked_for_again(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """With the same token; what was told before stays."""
    api.fail(SERVICES, None, Fault(500, "etcd is away"), Fault(500, "etcd is away"))
    async with following(Followed(api, caplog)) as followed:
        await followed.until_listed()
        assert followed.told() == ["begin", "+web", "+api", "complete"]
        tokens = [request.query.get("continue") for request in api.asked(SERVICES, watch=False)]
        assert tokens == [None, tokens[1], tokens[1], tokens[1]]
        assert followed.waits == [0.8, 1.6]
        assert followed.lines == ["cannot list services: 500 etcd is away", "services: listing and watching again"]


async def test_a_missing_right_is_said_once(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """With the verb and the resource; the other kinds are listed meanwhile."""
    denial = Fault(403, 'services is forbidden: User "system:serviceaccount:kube-system:coredns" cannot list resource "services"')
    api.fail(SERVICES, *[denial] * 5)
    async with following(Followed(api, caplog)) as followed:
        await followed.until_listed(Kind.NAMESPACE)
        await followed.until_listed()
        said = [line for line in followed.lines if "forbidden" in line]
        assert len(said) == 1
        rights = 'the ServiceAccount needs "list" and "watch" on services in all namespaces'
        assert said[0].startswith(f"cannot list services: forbidden; {rights}")
        assert "services: listing and watching again" in followed.lines


async def test_a_server_that_is_busy_says_when(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """429 with Retry-After."""
    api.fail(SERVICES, Fault(429, "too many requests", {"Retry-After": "7"}))
    async with following(Followed(api, caplog)) as followed:
        await followed.until_listed()
        assert followed.waits == [7.0]


async def test_back_off_grows_and_ends_with_success(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """From 0.8 s to 30 s; a watch that has told something starts it anew."""
    api.fail(SERVICES, *[Fault(503, "starting")] * 8)
    async with watching(api, caplog) as followed:
        assert followed.waits == [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]
        api.put(DB)
        await followed.until(lambda: "+db" in followed.told())
        api.fail(SERVICES, Fault(503, "again"))
        api.cut(SERVICES)
        await followed.until(lambda: len(followed.waits) == 9)
        assert followed.waits[8] == 0.8


async def test_an_outage_is_said_once_and_its_end_too(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """However many kinds it hits."""
    for path in (SERVICES, NAMESPACES, SLICES):
        api.fail(path, *[Fault()] * 3)
    async with following(Followed(api, caplog)) as followed:
        for kind in (Kind.SERVICE, Kind.NAMESPACE, Kind.ENDPOINT_SLICE):
            await followed.until_listed(kind)
        said = [line for line in followed.lines if "cannot reach" in line]
        assert 1 <= len(said) <= 3
        assert "answering from the last known state" in said[0]
        assert followed.lines[-1] == "the Kubernetes API answers again"
        assert "<error>" in followed.observed.codes
        assert "200" in followed.observed.codes


async def test_a_silent_watch_is_opened_again(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """From where it was, without a list."""
    async with watching(api, caplog, limits=TimeLimits(watch_silence=0.05)) as followed:
        await followed.until(lambda: len(api.asked(SERVICES, watch=True)) > 2)
        assert len(api.asked(SERVICES, watch=False)) == 2


async def test_octets_that_make_no_sense_lead_to_a_new_list(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """And are said."""
    async with watching(api, caplog) as followed:
        api.put(DB)
        await followed.until(lambda: "+db" in followed.told())
        api.send(SERVICES, b'{"type": "ADDED", "object": \n')
        await followed.until_listed(times=2)
        assert followed.told()[5:] == ["begin", "+web", "+api", "+db", "complete"]
        assert any("a watch event cannot be decoded" in line for line in followed.lines)


async def test_an_event_may_come_in_pieces(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """TCP knows no events."""
    async with watching(api, caplog) as followed:
        api.send(SERVICES, b'{"type":"DELETED","object":{"metadata":{"name":"web",')
        api.send(SERVICES, b'"namespace":"default","resourceVersion":"900"}}}')
        api.send(SERVICES, b"\n")
        await followed.until(lambda: "-web" in followed.told())


async def test_an_object_of_an_unknown_shape_is_left_out(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """The others are told."""
    async with watching(api, caplog) as followed:
        api.send(SERVICES, b'{"type":"ADDED","object":{"metadata":{"name":"odd","resourceVersion":"900"},"spec":{"ports":"none"}}}\n')
        api.put(DB)
        await followed.until(lambda: "+db" in followed.told())
        assert any("an object of an unknown shape was left out" in line for line in followed.lines)
        assert len(api.asked(SERVICES, watch=False)) == 2


async def test_selectors_are_the_servers_business(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """They go with lists and watches; Pods without those that have ended."""
    options = {"labels": "app in (a, b)", "namespace_labels": "team=x", "pods": True}
    async with watching(api, caplog, **options) as followed:
        await followed.until_listed(Kind.POD)
        await followed.until(lambda: api.watching(NAMESPACES))
        assert {request.query.get("labelSelector") for request in api.asked(SERVICES)} == {"app in (a, b)"}
        assert {request.query.get("labelSelector") for request in api.asked(NAMESPACES)} == {"team=x"}
        pods = api.asked(PODS)[0].query
        assert pods["fieldSelector"] == "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown"


async def test_a_token_that_is_refused_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A kubeconfig whose token file was renewed: no wait, no end."""
    token = tmp_path / "token"
    token.write_text("old")
    with ApiDouble([WEB]) as api:
        config = tmp_path / "kubeconfig"
        config.write_text(
            f"apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n"
            f"clusters: [{{name: k, cluster: {{server: '{api.url}'}}}}]\nusers: [{{name: u, user: {{tokenFile: {token}}}}}]\n"
        )
        api.fail(SERVICES, Fault(401, "token expired"))
        followed = Followed(api, caplog, endpoint="", kubeconfig=str(config))
        await followed.source.configure()
        token.write_text("new")
        async with following(followed):
            await followed.until_listed()
        assert [request.headers["Authorization"] for request in api.asked(SERVICES, watch=False)] == ["Bearer old", "Bearer new"]
        assert any("unauthorized; reading the credentials again" in line for line in followed.lines)


async def test_the_time_that_an_endpoint_changed_is_told(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """For the metric of how long changes take; only of watches, as a list is not news."""
    annotations = {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-02T03:04:05Z"}
    async with following(Followed(api, caplog)) as followed:
        await followed.until(lambda: api.watching(SLICES))
        api.put(endpoint_slice("db-1", "db", "10.0.0.1", annotations=annotations))
        await followed.until(lambda: followed.told(Kind.ENDPOINT_SLICE)[2:])
        assert [change.trigger_time for change in followed.changes if isinstance(change, Put) and change.trigger_time] == [1767323045.0]


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
async def test_what_cannot_work_is_said_at_the_start(caplog: pytest.LogCaptureFixture, options: dict[str, object], error: str) -> None:
    """Before anything is connected."""
    followed = Followed(ApiDouble(), caplog, **options)  # type: ignore[arg-type]
    with pytest.raises(SourceError) as raised:
        await followed.source.configure()
    assert str(raised.value).startswith(error)
    assert "\n" not in str(raised.value)
