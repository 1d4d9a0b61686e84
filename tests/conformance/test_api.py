"""The API client of the conformance suite: its requests and its errors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from svcdns.conformance.api import Api, MissingError, api_of, path_of
from svcdns.conformance.errors import ConformanceError

pytestmark = pytest.mark.usefixtures("kubeconfigs_read_here")

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "http://127.0.0.1:PORT"}}]
users: [{name: u, user: {token: secret}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
"""


class ApiServerDouble:
    """An API server that records requests and answers from a script."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str, str]] = []
        self.answers: list[tuple[int, object]] = []

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.text()
        self.asked.append((request.method, request.path_qs, request.headers["Content-Type"], body))
        assert request.headers["Authorization"] == "Bearer secret"
        status, content = self.answers.pop(0) if self.answers else (200, {})
        return web.Response(status=status, text=content if isinstance(content, str) else json.dumps(content))


@pytest.fixture
async def double(tmp_path: Path) -> AsyncIterator[tuple[ApiServerDouble, Path]]:
    """Yields an API server and its kubeconfig."""
    one = ApiServerDouble()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", one.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG.replace("PORT", str(runner.addresses[0][1])))
    yield one, path
    await runner.cleanup()


async def test_paths_methods_and_content_types_of_requests(double: tuple[ApiServerDouble, Path]) -> None:
    one, path = double
    async with api_of(str(path)) as api:
        await api.create(path_of("services", "n"), {"a": 1})
        await api.patch(path_of("endpointslices", "n", "x"), {"b": None})
        await api.delete(path_of("services", "n", "x"))
    assert [asked[:3] for asked in one.asked] == [
        ("POST", "/api/v1/namespaces/n/services", "application/json"),
        ("PATCH", "/apis/discovery.k8s.io/v1/namespaces/n/endpointslices/x", "application/merge-patch+json"),
        ("DELETE", "/api/v1/namespaces/n/services/x", "application/json"),
    ]
    assert json.loads(one.asked[1][3]) == {"b": None}


async def test_lists_are_paged(double: tuple[ApiServerDouble, Path]) -> None:
    """All pages of a list are fetched. Each object gets its kind."""
    one, path = double
    one.answers = [
        (200, {"items": [{"metadata": {"name": "a"}}], "metadata": {"continue": "t"}}),
        (200, {"items": [{"metadata": {"name": "b"}}]}),
    ]
    async with api_of(str(path)) as api:
        found = await api.listed("/api/v1/services", "Service")
    assert [(item["kind"], item["metadata"]["name"]) for item in found] == [("Service", "a"), ("Service", "b")]
    assert one.asked[1][1] == "/api/v1/services?limit=500&continue=t"


@pytest.mark.parametrize(
    ("status", "content", "text"),
    [
        pytest.param(403, {"message": "services is forbidden"}, "POST /x: 403 services is forbidden", id="forbidden"),
        pytest.param(502, "<html>bad", "POST /x: 502 <html>bad", id="a-proxy"),
        pytest.param(200, "[]", "POST /x: 200", id="no-object"),
    ],
)
async def test_refusals(double: tuple[ApiServerDouble, Path], status: int, content: object, text: str) -> None:
    """The error is one line with the request, the status and the server's message."""
    one, path = double
    one.answers = [(status, content)]
    async with api_of(str(path)) as api:
        with pytest.raises(ConformanceError) as caught:
            await api.create("/x", {})
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_deleting_a_missing_object(double: tuple[ApiServerDouble, Path]) -> None:
    """Deleting a missing object is no error. Reading one is an error."""
    one, path = double
    one.answers = [(404, {}), (404, {})]
    async with api_of(str(path)) as api:
        await api.delete("/x")
        with pytest.raises(MissingError):
            await api.get("/x")


async def test_no_api_server(tmp_path: Path) -> None:
    """A missing kubeconfig and an unreachable API server each raise ConformanceError."""
    with pytest.raises(ConformanceError, match=r"kubeconfig: .*nowhere: no such file"):
        async with api_of(str(tmp_path / "nowhere")):
            pytest.fail("there is nothing to open")
    path = tmp_path / "kubeconfig"
    path.write_text(KUBECONFIG.replace("PORT", "1"))
    async with api_of(str(path)) as api:
        assert isinstance(api, Api)
        with pytest.raises(ConformanceError, match="API server: GET /x: "):
            await api.get("/x")
