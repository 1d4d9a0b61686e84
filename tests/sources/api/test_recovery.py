"""Faults of the API server: the requests during a fault, their rate, and the objects after the recovery."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from svcdns.cluster.changes import Kind
from svcdns.sources.api.client import TimeLimits
from svcdns.sources.api.retry import PERIOD
from tests.support.api_double import NAMESPACES, SERVICES, SLICES, ApiDouble, Fault, namespace, service
from tests.support.followed import Followed, following, watching

WEB, API, DB = service("web", "10.96.0.1"), service("api", "10.96.0.2"), service("db")


pytestmark = pytest.mark.usefixtures("kubeconfigs_read_here")


@pytest.fixture
def api() -> Iterator[ApiDouble]:
    """A double of the Kubernetes API with two Services and a Namespace."""
    with ApiDouble([namespace("default"), WEB, API], page=1) as double:
        yield double


async def test_a_cut_watch_goes_on_from_its_version(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    async with watching(api, caplog) as followed:
        api.put(DB)
        await followed.until(lambda: "+db" in followed.events())
        version = api.version
        api.cut(SERVICES)
        api.delete(WEB)
        await followed.until(lambda: "-web" in followed.events())
        assert len(api.asked(SERVICES, watch=False)) == 2
        assert int(api.asked(SERVICES, watch=True)[-1].query["resourceVersion"]) >= version
        assert followed.lines == []


@pytest.mark.parametrize("in_stream", [True, False], ids=["in the stream", "at the start"])
async def test_410_lists_again_without_a_gap(
    api: ApiDouble, caplog: pytest.LogCaptureFixture, *, in_stream: bool
) -> None:
    """Services that are missing in the new list are removed when the list is complete, and not before."""
    async with watching(api, caplog) as followed:
        api.put(DB)
        await followed.until(lambda: "+db" in followed.events())
        api.lose(WEB)
        if in_stream:
            api.expire(SERVICES)
        else:
            api.compact()
            api.cut(SERVICES)
        await followed.until_listed(times=2)
        assert followed.events()[5:] == ["begin", "+api", "+db", "complete"]
        assert any("listing again" in line for line in followed.lines)
        assert not any(record.levelno > logging.INFO for record in caplog.records)


async def test_an_expired_page_starts_the_list_again(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    api.fail(SERVICES, None, Fault(410, "the provided continue parameter is too old"))
    async with following(Followed(api, caplog)) as followed:
        await followed.until_listed()
        assert followed.events() == ["begin", "+web", "begin", "+web", "+api", "complete"]


async def test_a_page_that_fails_is_requested_again(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """The request has the same token and a limit of one object. Objects from earlier pages stay."""
    api.fail(SERVICES, None, Fault(500, "etcd is away"), Fault(500, "etcd is away"))
    async with following(Followed(api, caplog)) as followed:
        await followed.until_listed()
        assert followed.events() == ["begin", "+web", "+api", "complete"]
        tokens = [request.query.get("continue") for request in api.asked(SERVICES, watch=False)]
        assert tokens == [None, tokens[1], tokens[1], tokens[1]]
        assert [request.query["limit"] for request in api.asked(SERVICES, watch=False)] == ["1", "25", "1", "1"]
        assert followed.waits == [0.3, 1.0]
        assert followed.lines == [
            'the Kubernetes API server refuses a request verb=list kind=services error="500 etcd is away"',
            "listing and watching again kind=services",
        ]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(500, "etcd is away"),
        Fault(503, "starting"),
        Fault(429, "busy"),
        Fault(401, "no"),
        Fault(403, "no"),
        Fault(),
    ],
    ids=lambda fault: str(fault.status or "cut"),
)
async def test_a_failing_server_gets_one_cheap_request_a_second(
    api: ApiDouble, caplog: pytest.LogCaptureFixture, fault: Fault
) -> None:
    """All kinds together send one watch request a second. Afterwards all watches recover."""
    async with watching(api, caplog) as followed:
        await followed.until(lambda: api.watching(NAMESPACES) and api.watching(SLICES))
        followed.time.now += 60
        asked, began, lists = len(api.requests), followed.time.now, len(api.asked(SERVICES, watch=False))
        api.standing = fault
        for path in (SERVICES, NAMESPACES, SLICES):
            api.cut(path)
        await followed.until(lambda: len(api.requests) > asked + 30)
        assert len(api.requests) - asked <= 3 + (followed.time.now - began) / PERIOD + 1
        assert all(one.watch for one in api.requests[asked:])
        api.standing = None
        recovered = followed.time.now
        api.put(DB)
        await followed.until(lambda: api.watching(SERVICES) and api.watching(NAMESPACES) and api.watching(SLICES))
        await followed.until(lambda: "+db" in followed.events())
        assert followed.time.now - recovered <= 3.0
        assert len(api.asked(SERVICES, watch=False)) == lists


async def test_a_list_waits_for_a_page_of_one_object(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """While requests fail, each request asks for one object only."""
    api.standing = Fault(500, "etcd is away")
    async with following(Followed(api, caplog)) as followed:
        await followed.until(lambda: len(api.requests) > 20)
        assert {request.query["limit"] for request in api.requests} == {"1"}
        api.standing = None
        for kind in (Kind.SERVICE, Kind.NAMESPACE, Kind.ENDPOINT_SLICE):
            await followed.until_listed(kind)


async def test_full_pages_that_fail_are_tried_after_growing_delays(caplog: pytest.LogCaptureFixture) -> None:
    with ApiDouble([service(f"s{number}") for number in range(40)]) as api:
        api.fail(SERVICES, *[None, Fault(500, "too much")] * 6)
        async with following(Followed(api, caplog)) as followed:
            await followed.until_listed()
            assert [wait for wait in followed.waits if wait > 1.0] == [2.0, 4.0, 8.0, 16.0]
            assert followed.events() == ["begin", *(f"+s{number}" for number in range(40)), "complete"]


@pytest.mark.parametrize(
    ("wanted", "seconds"),
    [("7", 7.0), ("900", 900.0), ("Fri, 02 Jan 2026 03:04:15 GMT", 10.0), ("soon", 0.3)],
    ids=["seconds", "many", "a date", "nonsense"],
)
async def test_a_retry_after_is_waited_for(
    api: ApiDouble, caplog: pytest.LogCaptureFixture, wanted: str, seconds: float
) -> None:
    """Retry-After comes with status 429, in seconds or as a date. It applies to one resource."""
    api.fail(
        SERVICES, Fault(429, "too many requests", {"Retry-After": wanted, "Date": "Fri, 02 Jan 2026 03:04:05 GMT"})
    )
    async with following(Followed(api, caplog)) as followed:
        await followed.until_listed()
        assert followed.waits == [seconds]


async def test_an_outage_and_its_end_are_logged_once(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    for path in (SERVICES, NAMESPACES, SLICES):
        api.fail(path, *[Fault()] * 3)
    async with following(Followed(api, caplog)) as followed:
        for kind in (Kind.SERVICE, Kind.NAMESPACE, Kind.ENDPOINT_SLICE):
            await followed.until_listed(kind)
        said = [line for line in followed.lines if "cannot reach" in line]
        assert 1 <= len(said) <= 3
        assert "answers=servfail" in said[0]
        assert followed.lines[-1] == "the Kubernetes API answers again"
        assert "<error>" in followed.observed.codes
        assert "200" in followed.observed.codes


async def test_a_missing_right_is_logged_once(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """The line has the verb and the resource. Other kinds are listed in the meantime."""
    denial = Fault(
        403, 'services is forbidden: User "system:serviceaccount:kube-system:coredns" cannot list resource "services"'
    )
    api.fail(SERVICES, *[denial] * 5)
    async with following(Followed(api, caplog)) as followed:
        await followed.until_listed(Kind.NAMESPACE)
        await followed.until_listed()
        said = [line for line in followed.lines if "forbidden" in line]
        assert len(said) == 1
        rights = "the ServiceAccount needs the verbs list and watch in all namespaces"
        assert said[0].startswith(f"forbidden: {rights} verb=list kind=services error=")
        assert "listing and watching again kind=services" in followed.lines


async def test_a_token_that_is_refused_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After status 401, the request is repeated with the new token."""
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
        assert [request.headers["Authorization"] for request in api.asked(SERVICES, watch=False)] == [
            "Bearer old",
            "Bearer new",
        ]
        assert any("unauthorized; reading the credentials again" in line for line in followed.lines)


async def test_a_silent_watch_is_opened_again(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """The new watch begins at the last version. No list is requested."""
    async with watching(api, caplog, limits=TimeLimits(watch_silence=0.2)) as followed:
        await followed.until(lambda: len(api.asked(SERVICES, watch=True)) > 2)
        assert "<error>" not in followed.observed.codes, "the watch itself was answered"
        assert len(api.asked(SERVICES, watch=False)) == 2


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(b'{"type": "ADDED", "object": ', id="cut off"),
        pytest.param(b'{"type": "ADDED\xff", "object": {}}', id="no UTF-8"),
        pytest.param(b'{"type": "ADDED", "x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", id="nested too deeply"),
    ],
)
async def test_octets_that_cannot_be_decoded_lead_to_a_new_list(
    api: ApiDouble, caplog: pytest.LogCaptureFixture, event: bytes
) -> None:
    async with watching(api, caplog) as followed:
        api.put(DB)
        await followed.until(lambda: "+db" in followed.events())
        api.send(SERVICES, event + b"\n")
        await followed.until_listed(times=2)
        assert followed.events()[5:] == ["begin", "+web", "+api", "+db", "complete"]
        assert any("a watch event cannot be decoded" in line for line in followed.lines)


async def test_a_connection_without_an_answer_is_not_used_again(
    api: ApiDouble, caplog: pytest.LogCaptureFixture
) -> None:
    limits = TimeLimits(head=0.03, long=0.06, watch_silence=0.1)
    async with watching(api, caplog, limits=limits) as followed:
        await followed.until(lambda: api.watching(NAMESPACES) and api.watching(SLICES))
        asked = len(api.requests)
        api.standing = Fault(stalled=True)
        await followed.until(lambda: len(api.requests) >= asked + 9)
        ports = [one.port for one in api.requests[asked:]]
        assert len(set(ports)) == len(ports)
        api.standing = None
        api.put(DB)
        await followed.until(lambda: "+db" in followed.events())
        assert sum("cannot reach" in line for line in followed.lines) >= 1


async def test_every_address_of_the_name_is_tried(
    api: ApiDouble, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = [socket.create_server((address, 0)) for address in ("127.0.0.2", "127.0.0.3")]

    async def addresses(*_: object, **__: object) -> list[object]:
        kind = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, ""
        return [(*kind, address) for address in (*(one.getsockname() for one in silent), ("127.0.0.1", api.port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", addresses)
    try:
        followed = Followed(api, caplog, TimeLimits(head=0.1, long=0.2), endpoint=f"http://api.example:{api.port}")
        async with following(followed):
            for kind in (Kind.SERVICE, Kind.NAMESPACE, Kind.ENDPOINT_SLICE):
                await followed.until_listed(kind)
            await followed.until(lambda: api.watching(SERVICES))
    finally:
        for one in silent:
            one.close()


@pytest.mark.parametrize("jump", [-3e8, 3e8], ids=["back", "ahead"])
async def test_a_step_of_the_wall_clock_changes_nothing(
    api: ApiDouble, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """Waits, reported ages and the watch do not depend on the wall clock."""
    async with watching(api, caplog) as followed:
        before = time.time
        monkeypatch.setattr(time, "time", lambda: before() + jump)
        followed.time.now += 60
        api.fail(SERVICES, Fault(503, "starting"), Fault(503, "starting"))
        api.cut(SERVICES)
        api.put(DB)
        await followed.until(lambda: "+db" in followed.events())
        assert followed.waits == [0.3, 1.0]
        assert followed.source.ages()[Kind.SERVICE] == 0.0
        assert followed.events() == ["begin", "+web", "+api", "complete", "+db"]


@pytest.mark.parametrize("status", [400, 422])
async def test_a_version_that_the_server_does_not_know_leads_to_a_new_list(
    api: ApiDouble, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """After a restore of the API server's data, it may not know the version."""
    async with watching(api, caplog) as followed:
        followed.time.now += 60
        api.fail(SERVICES, Fault(status, "invalid resource version"))
        api.cut(SERVICES)
        await followed.until_listed(times=2)
        await followed.until(lambda: api.watching(SERVICES))


async def test_lists_without_a_watch_have_growing_delays(api: ApiDouble, caplog: pytest.LogCaptureFixture) -> None:
    """The server answers each new watch with 410."""
    expired = Fault(410, "too old resource version")
    async with watching(api, caplog) as followed:
        followed.time.now += 60
        api.fail(SERVICES, *[expired, None, None] * 4, expired)
        api.cut(SERVICES)
        await followed.until_listed(times=6)
        assert followed.waits == [1.0, 2.0, 4.0, 8.0]


async def test_a_token_that_is_renewed_late(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each retry reads the token file, so that the new token is used soon."""
    token = tmp_path / "token"
    token.write_text("old")
    with ApiDouble([namespace("default"), WEB]) as api:
        config = tmp_path / "kubeconfig"
        config.write_text(
            f"apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n"
            f"clusters: [{{name: k, cluster: {{server: '{api.url}'}}}}]\nusers: [{{name: u, user: {{tokenFile: {token}}}}}]\n"
        )
        api.token = "new"
        async with following(Followed(api, caplog, endpoint="", kubeconfig=str(config))) as followed:
            await followed.until(lambda: len(api.requests) > 8)
            token.write_text("new")
            renewed = followed.time.now
            await followed.until_listed()
            assert followed.time.now - renewed <= 5.0, "of a clock that goes on while the kubeconfig is read"
            assert sum("unauthorized" in line for line in followed.lines) == 3
