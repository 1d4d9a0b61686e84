"""A double of the Kubernetes API server for a cluster DNS: paged lists, watches with bookmarks, and faults.

The double runs in its own thread, so that blocking tests can use it. `bench/cluster.py` fills it with a large cluster.
Lists and watches obey label selectors, and the field selectors that a cluster DNS uses. Like an old API server, the
double refuses streamed lists.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from aiohttp import web

from tests.support.selectors import label_selector

T = TypeVar("T")
Object = dict[str, Any]
Selects = Callable[[Object], bool]

SERVICES = "/api/v1/services"
NAMESPACES = "/api/v1/namespaces"
PODS = "/api/v1/pods"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"
IMPORTS = "/apis/multicluster.x-k8s.io/v1alpha1/serviceimports"
PATHS = {"Service": SERVICES, "Namespace": NAMESPACES, "Pod": PODS, "EndpointSlice": SLICES, "ServiceImport": IMPORTS}


@dataclass(frozen=True)
class Fault:
    """The response to a request: a status with a text, a cut connection (`status` 0), or no response (`stalled`).

    With `in_stream`, the watch is opened, and then ended with an ERROR event. The event has `status`, or 410 without a
    status.
    """

    status: int = 0
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    stalled: bool = False
    in_stream: bool = False


@dataclass(frozen=True)
class Request:
    """A received request."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    port: int
    """The client's port, which tells connections apart."""

    @property
    def watch(self) -> bool:
        """Returns True for a watch."""
        return "watch" in self.query


class ApiDouble:
    """The objects of a cluster under the paths of their resources."""

    def __init__(self, objects: Iterable[Object] = (), *, page: int = 0, tls: ssl.SSLContext | None = None) -> None:
        """Creates a double with these objects. A page has at most `page` objects, or fewer if the client's limit is
        lower.
        """
        self.requests: list[Request] = []
        self.faults: dict[str, deque[Fault | None]] = {path: deque() for path in PATHS.values()}
        self.standing: Fault | None = None
        """The fault for every request without one of its own."""
        self.token = ""
        """The only bearer token that is accepted; None accepts all."""
        self.port = 0
        self._page, self._tls = page, tls
        self._version = 100
        self._oldest = 0
        self._objects: dict[str, dict[tuple[str, str], Object]] = {path: {} for path in PATHS.values()}
        self._history: list[tuple[int, str, _Event]] = []
        self._watches: dict[asyncio.Queue[bytes | None], tuple[str, Selects]] = {}
        self._snapshots: dict[str, list[Object]] = {}
        for item in objects:
            self._store(item)

    def __enter__(self) -> Self:
        """Listens on a port of loopback that the kernel chooses."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(40)
        self._loop.close()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def version(self) -> int:
        """Returns the resource version of the last change."""
        return self._version

    # -- what a test does

    def put(self, *items: Object) -> None:
        """Creates or replaces objects, with events for watches."""
        self._in_loop(lambda: [self._change("", item) for item in items])

    def delete(self, *items: Object) -> None:
        """Deletes objects, with events for watches."""
        self._in_loop(lambda: [self._change("DELETED", item) for item in items])

    def lose(self, item: Object) -> None:
        """Deletes an object without an event, so that only a new list shows its absence."""
        self._in_loop(lambda: self._objects[PATHS[item["kind"]]].pop(_key(item)))

    def send(self, path: str, line: bytes) -> None:
        """Sends raw octets to the watches of a resource."""
        self._in_loop(lambda: self._send(path, line))

    def bookmark(self, path: str) -> None:
        """Sends a bookmark. Its version is newer than any change."""
        self._version += 10
        event = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(self._version)}}}
        self.send(path, json.dumps(event).encode() + b"\n")

    def expire(self, path: str) -> None:
        """Ends the watches of a resource with 410 in the stream, and drops the history, so that the next watch gets
        410, too.
        """
        status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
        self.compact()
        self.send(path, json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")

    def compact(self) -> None:
        """Drops the history, so that a watch from an earlier version gets 410."""
        self._version += 1
        self._oldest = self._version

    def cut(self, path: str) -> None:
        """Cuts the watches of a resource."""
        self._in_loop(
            lambda: [queue.put_nowait(None) for queue, (watched, _) in self._watches.items() if watched == path]
        )

    def fail(self, path: str, *faults: Fault | None) -> None:
        """Sets the faults for the next requests of a resource, one for each request. None means no fault."""
        self.faults[path].extend(faults)

    def asked(self, path: str, *, watch: bool | None = None) -> list[Request]:
        """Returns the requests for a resource so far. `watch` selects watches or other requests."""
        return [one for one in self.requests if one.path == path and (watch is None or one.watch is watch)]

    def watching(self, path: str) -> int:
        """Returns the number of open watches of a resource."""
        return sum(watched == path for watched, _ in self._watches.values())

    # -- inside its thread

    def _in_loop(self, work: Callable[[], T]) -> T:
        async def run() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    async def _listen(self) -> None:
        app = web.Application()
        for path in PATHS.values():
            app.router.add_get(path, self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls)
        await self._site.start()
        self.port = self._runner.addresses[0][1]

    async def _close(self) -> None:
        for queue in self._watches:
            queue.put_nowait(None)
        await self._site.stop()
        for _ in range(3):  # turns of the event loop, after which the runner knows the connections accepted last
            await asyncio.sleep(0)
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}  # watches that were opened meanwhile
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        # A transport stays open while it has octets that nobody reads, and until the loop has called it once more.
        for _ in range(1000):
            transports = tuple(getattr(self._loop, "_transports", {}).values())
            open_ones = [one for one in transports if getattr(one, "_sock", None) is not None]
            if not open_ones:
                break
            for transport in open_ones:
                transport.abort()
            await asyncio.sleep(0.001)

    def _store(self, item: Object) -> Object:
        self._version += 1
        metadata = {"namespace": "" if item["kind"] == "Namespace" else "default"} | item["metadata"]
        stored = item | {"metadata": metadata | {"resourceVersion": str(self._version)}}
        self._objects[PATHS[item["kind"]]][_key(stored)] = stored
        return stored

    def _change(self, event: str, item: Object) -> None:
        path = PATHS[item["kind"]]
        key = _key(item)
        before = self._objects[path].get(key)
        stored = self._store(item)
        if event == "DELETED":
            del self._objects[path][key]
        change = _Event(before, stored, gone=event == "DELETED")
        self._history.append((self._version, path, change))
        for queue, (watched, selects) in self._watches.items():
            if watched == path and (line := change.line(selects)):
                queue.put_nowait(line)

    def _send(self, path: str, line: bytes) -> None:
        for queue, (watched, _) in self._watches.items():
            if watched == path:
                queue.put_nowait(line)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        peer = request.transport.get_extra_info("peername") if request.transport is not None else None
        self.requests.append(Request(request.path, dict(request.query), dict(request.headers), peer[1] if peer else 0))
        faults = self.faults[request.path]
        fault = faults.popleft() if faults else self.standing
        if fault is not None:
            return await self._fault(request, fault)
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthorized", {})
        if "sendInitialEvents" in request.query:
            return _status(422, "sendInitialEvents is forbidden for watch", {})
        if "watch" in request.query:
            return await self._watch(request)
        return self._list(request)

    async def _fault(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        if fault.stalled:
            await asyncio.Event().wait()
        if fault.in_stream:
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            await response.write(
                _line("ERROR", {"kind": "Status", "code": fault.status or 410, "message": fault.message})
            )
            return response
        if fault.status:
            return _status(fault.status, fault.message, fault.headers)
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    def _list(self, request: web.Request) -> web.StreamResponse:
        token = request.query.get("continue", "")
        items = self._snapshots.get(token.split("@")[0]) if token else self._selected(request)
        if items is None:
            return _status(410, "the provided continue parameter is too old", {})
        limit = min(int(request.query.get("limit", "0")) or len(items) or 1, self._page or len(items) or 1)
        start = int(token.split("@")[1]) if token else 0
        metadata: dict[str, Any] = {"resourceVersion": token.split("@")[0].split("-")[0] or str(self._version)}
        if start + limit < len(items):
            name = token.split("@")[0] or f"{self._version}-{len(self._snapshots)}"
            self._snapshots[name] = items
            metadata["continue"] = f"{name}@{start + limit}"
            metadata["remainingItemCount"] = len(items) - start - limit
        body = {"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items[start : start + limit]}
        response = web.Response(body=json.dumps(body).encode(), content_type="application/json")
        response.enable_compression()
        return response

    def _selected(self, request: web.Request) -> list[Object]:
        selects = _selects(request.query)
        return [item for item in self._objects[request.path].values() if selects(item)]

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        if since < self._oldest:
            return _status(410, "too old resource version", {})
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        selects = _selects(request.query)
        for version, path, change in self._history:
            if version > since and path == request.path and (line := change.line(selects)):
                queue.put_nowait(line)
        self._watches[queue] = request.path, selects
        try:
            while (event := await queue.get()) is not None:
                await response.write(event)
        except ConnectionError:
            pass
        finally:
            del self._watches[queue]
        return response


@dataclass(frozen=True)
class _Event:
    """The change of an object. For a watch with a selector, an object that no longer matches is reported as deleted."""

    before: Object | None
    after: Object
    gone: bool

    def line(self, selects: Selects) -> bytes:
        was = self.before is not None and selects(self.before)
        now = not self.gone and selects(self.after)
        if not was and not now:
            return b""
        kind = "DELETED" if not now else "MODIFIED" if was else "ADDED"
        return _line(kind, self.after)


def _line(event: str, item: Object) -> bytes:
    return json.dumps({"type": event, "object": item}).encode() + b"\n"


def _selects(query: Mapping[str, str]) -> Selects:
    """Returns a function that tests whether an object matches the selectors of a request."""
    labels = label_selector(query.get("labelSelector", ""))
    phases = {part.removeprefix("status.phase!=") for part in query.get("fieldSelector", "").split(",")}
    return lambda item: (
        labels(item["metadata"].get("labels") or {}) and item.get("status", {}).get("phase") not in phases
    )


def _key(item: Object) -> tuple[str, str]:
    namespace = "" if item["kind"] == "Namespace" else item["metadata"].get("namespace", "default")
    return namespace, item["metadata"]["name"]


def _status(code: int, message: str, headers: dict[str, str]) -> web.Response:
    body = {"kind": "Status", "code": code, "message": message, "status": "Failure"}
    return web.Response(status=code, headers=headers, body=json.dumps(body).encode(), content_type="application/json")


def namespace(name: str) -> Object:
    return {"kind": "Namespace", "metadata": {"name": name}}


def service(name: str, ip: str = "None", *ports: int, **metadata: str) -> Object:
    """Returns a Service with one cluster IP, or a headless Service."""
    spec = {
        "clusterIP": ip,
        "ports": [{"name": f"p{port}", "port": port, "protocol": "TCP"} for port in ports or (80,)],
    }
    return {"kind": "Service", "metadata": {"name": name, **metadata}, "spec": spec}


def endpoint_slice(name: str, of: str, *addresses: str, **metadata: Any) -> Object:
    """Returns an EndpointSlice with ready endpoints of the Service `of`."""
    return {
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": of}, **metadata},
        "addressType": "IPv4",
        "ports": [{"name": "p80", "port": 80, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in addresses],
    }
