"""An API server for a large cluster that uses very little CPU: `python -m bench.api --services 10000 --endpoints 10`.

Objects are stored encoded. A watch may begin at any version in the history, and gets a bookmark each minute; an older
version gets 410. Streamed lists (WatchList) get 422, unless `--streams` is given.

The program prints its port. Then it reads one command a line from standard input, and writes one line of JSON for each
command, until the input ends:
  change NUMBER...      changes the first endpoint of these Services; returns the new address of each
  churn RATE SECONDS    changes endpoints of random Services in the background
  flood COUNT           changes endpoints as fast as the watches accept the events; returns when all are done
  relist                clears the history and ends every watch with 410
  break FAULT           begins a fault. `cut` closes the watches. `410-event` and `410-http` clear the history and end
                        the watches, with an event or by closing them. A status (500, 429, 401, …) answers every
                        request. `refused` refuses connections. `half-open` sends nothing more on any connection.
  repair NUMBER         ends the fault and changes the first endpoint of this Service; returns its address
  changes               the number of changes so far
  watches               the number of open watches of each resource
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import random
import sys
import time
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from bench.cluster import NAMESPACE_LIST, SERVICES, SLICES, Cluster, moved, objects, slice_object
from bench.processes import end_with_parent

PATHS = {
    "/api/v1/namespaces": (NAMESPACE_LIST, "v1", "Namespace"),
    "/api/v1/services": (SERVICES, "v1", "Service"),
    "/apis/discovery.k8s.io/v1/endpointslices": (SLICES, "discovery.k8s.io/v1", "EndpointSlice"),
}
HISTORY = 10_000
"""Events stored for watches that begin later."""

BOOKMARKS = 60.0
"""Seconds between bookmarks."""

EXPIRED = (
    b'{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,'
    b'"message":"too old"}}\n'
)


@dataclass(eq=False)
class Watch:
    """An open watch of one resource. Set `ended` to end the watch."""

    resource: str
    response: web.StreamResponse
    transport: asyncio.Transport
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Api:
    """A Kubernetes API server with the objects of one cluster, for list and watch requests."""

    def __init__(self, cluster: Cluster, *, streams: bool) -> None:
        """If `streams` is true, a watch may have `sendInitialEvents` (WatchList). Otherwise such a watch gets 422."""
        app = web.Application()
        for path in PATHS:
            app.router.add_get(path, self.handle)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        self.streams = streams
        self.cluster = cluster
        self.version = 1000
        self.oldest = self.version
        self.variant = 0
        self.stored: dict[str, dict[str, bytes]] = {resource: {} for resource, _, _ in PATHS.values()}
        self.history: deque[tuple[int, str, bytes]] = deque(maxlen=HISTORY)
        self.watches: list[Watch] = []
        self.pages: dict[str, list[bytes]] = {}
        self.status = 0
        self.unresponsive = False
        self.connections: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()
        self.stalled: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()
        for resource, item in objects(cluster):
            self.store(resource, item)

    def store(self, resource: str, item: dict[str, Any]) -> bytes:
        """Stores an object under a new version and returns its JSON."""
        self.version += 1
        metadata = item["metadata"]
        metadata["resourceVersion"] = str(self.version)
        body = msgspec.json.encode(item)
        self.stored[resource][f"{metadata.get('namespace', '')}/{metadata['name']}"] = body
        return body

    async def move(self, number: int) -> str:
        """Changes the address of a Service's first endpoint, with the time of the change. Returns the new address."""
        self.variant += 1
        changed = slice_object(self.cluster, number, self.variant)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        changed["metadata"]["annotations"]["endpoints.kubernetes.io/last-change-trigger-time"] = now
        body = self.store(SLICES, changed)
        line = (
            b'{"type":"MODIFIED","object":{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1",%b}\n' % body[1:]
        )
        if len(self.history) == HISTORY:
            self.oldest = self.history[0][0]
        self.history.append((self.version, SLICES, line))
        for watch in self.watches:
            if watch.resource == SLICES:
                await watch.response.write(line)
        return moved(self.variant)

    # -- HTTP

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers a list or watch request. During a fault, returns an error or does not answer."""
        resource, version, kind = PATHS[request.path]
        assert request.transport is not None
        self.connections.add(request.transport)
        if self.unresponsive or request.transport in self.stalled:
            self.stalled.add(request.transport)
            await asyncio.Event().wait()
        if self.status:
            return refusal(self.status, "Broken", "fault of the bench")
        if "sendInitialEvents" in request.query and not self.streams:
            return refusal(422, "Invalid", "streamed lists are not supported")
        if request.query.get("watch", "") in {"true", "1"}:
            with contextlib.suppress(ConnectionError):
                return await self.watch(request, resource)
            return web.Response()
        return self.page(request, resource, version, kind)

    def page(self, request: web.Request, resource: str, version: str, kind: str) -> web.Response:
        """Returns one page of a list.

        As the Kubernetes API server does, returns the whole list for `resourceVersion=0`.
        """
        snapshot, _, start = request.query.get("continue", "").partition("@")
        items = self.pages.get(snapshot) if snapshot else list(self.stored[resource].values())
        if items is None:
            return refusal(410, "Expired", "the continue parameter is too old")
        snapshot = snapshot or f"{self.version}-{resource}"
        first = int(start or 0)
        limit = 0 if request.query.get("resourceVersion") == "0" else int(request.query.get("limit", 0))
        end = first + limit if limit and first + limit < len(items) else len(items)
        metadata: dict[str, Any] = {"resourceVersion": snapshot.partition("-")[0]}
        if end < len(items):
            self.pages[snapshot] = items
            metadata |= {"continue": f"{snapshot}@{end}", "remainingItemCount": len(items) - end}
        else:
            self.pages.pop(snapshot, None)
        head = f'{{"kind":"{kind}List","apiVersion":"{version}","metadata":{json.dumps(metadata)},"items":['
        return web.Response(
            body=b"%b%b]}" % (head.encode(), b",".join(items[first:end])), content_type="application/json"
        )

    async def watch(self, request: web.Request, resource: str) -> web.StreamResponse:
        """Sends the events after the client's `resourceVersion`, and then each new event, until the watch ends."""
        initial = "sendInitialEvents" in request.query
        since = self.version if initial else int(request.query.get("resourceVersion") or 0)
        if since < self.oldest:
            return refusal(410, "Expired", "too old resource version")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        if initial:
            await self.initial_events(response, resource, since)
        for version, changed, line in self.history:
            if changed == resource and version > since:
                await response.write(line)
        assert request.transport is not None
        watch = Watch(resource, response, request.transport)
        self.watches.append(watch)
        try:
            await watch.ended.wait()
        finally:
            if watch in self.watches:
                self.watches.remove(watch)
        return response

    async def initial_events(self, response: web.StreamResponse, resource: str, version: int) -> None:
        """Sends every object as an ADDED event, and then the bookmark that ends the initial events (WatchList)."""
        api, kind = next((api, kind) for name, api, kind in PATHS.values() if name == resource)
        head = f'{{"type":"ADDED","object":{{"kind":"{kind}","apiVersion":"{api}",'.encode()
        bodies = list(self.stored[resource].values())
        for first in range(0, len(bodies), 100):
            await response.write(b"".join(b"%b%b}\n" % (head, body[1:]) for body in bodies[first : first + 100]))
        await response.write(bookmark(resource, version, {"k8s.io/initial-events-end": "true"}))

    async def send_bookmarks(self) -> None:
        """Sends a bookmark to every watch each minute, until the task is cancelled."""
        while True:
            await asyncio.sleep(BOOKMARKS)
            for watch in list(self.watches):
                await watch.response.write(bookmark(watch.resource, self.version, {}))

    # -- faults

    async def begin_fault(self, fault: str) -> None:
        """Begins the fault that the command `break` names (see the module's docstring).

        Raises ValueError for an unknown name.
        """
        ended, self.watches = self.watches, []
        match fault:
            case "410-event" | "410-http":
                self.version += 1
                self.oldest = self.version
                self.history.clear()
            case "refused":
                await self.site.stop()
            case "half-open":
                self.unresponsive = True
                self.stalled.update(self.connections)
                return
            case "cut":
                pass
            case _:
                self.status = int(fault)
        for watch in ended:
            if fault == "410-event":
                await watch.response.write(EXPIRED)
                watch.ended.set()
            else:
                watch.transport.abort()
        if fault == "refused":
            for connection in list(self.connections):
                connection.abort()

    async def end_fault(self) -> None:
        """Ends the current fault. Connections that were open during the fault `half-open` stay silent."""
        self.status, self.unresponsive = 0, False
        if self.site not in self.runner.sites:
            await self.listen(self.port)

    async def listen(self, port: int) -> None:
        """Accepts HTTP connections on a port of 127.0.0.1. Port 0 means any free port."""
        self.site = web.TCPSite(self.runner, "127.0.0.1", port)
        await self.site.start()
        self.port = self.runner.addresses[0][1]

    # -- commands

    async def command(self, words: list[str]) -> Any:
        """Runs a command, given as words, and returns its result. Raises ValueError for an unknown command."""
        match words:
            case ["change", *numbers]:
                return [await self.move(int(number)) for number in numbers]
            case ["churn", rate, seconds]:
                self.background = asyncio.ensure_future(self.churn(float(rate), float(seconds)))
                return True
            case ["flood", count]:
                rng = random.Random(self.variant)
                for number in range(int(count)):
                    await self.move(rng.randrange(self.cluster.services))
                    if number % 100 == 0:
                        await asyncio.sleep(0)
                return int(count)
            case ["break", fault]:
                await self.begin_fault(fault)
                return True
            case ["repair", number]:
                await self.end_fault()
                return await self.move(int(number))
            case ["relist"]:
                self.version += 1
                self.oldest = self.version
                self.history.clear()
                ended, self.watches = self.watches, []
                for watch in ended:
                    await watch.response.write(EXPIRED)
                    watch.ended.set()
                return len(ended)
            case ["changes"]:
                return self.variant
            case ["watches"]:
                open_now = [watch.resource for watch in self.watches]
                return {resource: open_now.count(resource) for resource, _, _ in PATHS.values()}
        raise ValueError(f"unknown command: {words}")

    async def churn(self, rate: float, seconds: float) -> None:
        """Changes endpoints of random Services, `rate` changes a second."""
        loop = asyncio.get_running_loop()
        rng = random.Random(self.variant)
        begin = loop.time()
        for count in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, begin + count / rate - loop.time()))
            await self.move(rng.randrange(self.cluster.services))


def bookmark(resource: str, version: int, annotations: dict[str, str]) -> bytes:
    """Returns a BOOKMARK event as one line of a watch response."""
    api, kind = next((api, kind) for name, api, kind in PATHS.values() if name == resource)
    metadata = {"resourceVersion": str(version), "creationTimestamp": None} | (
        {"annotations": annotations} if annotations else {}
    )
    return (
        json.dumps({"type": "BOOKMARK", "object": {"kind": kind, "apiVersion": api, "metadata": metadata}}).encode()
        + b"\n"
    )


def refusal(code: int, reason: str, message: str) -> web.Response:
    """Returns an HTTP error response with a Status object as its body."""
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "code": code,
        "message": message,
    }
    return web.json_response(body, status=code)


async def serve(cluster: Cluster, port: int, *, streams: bool) -> None:
    """Serves HTTP and runs the commands from standard input, until standard input ends."""
    api = Api(cluster, streams=streams)
    await api.runner.setup()
    await api.listen(port)
    bookmarks = asyncio.create_task(api.send_bookmarks())
    gc.collect()
    gc.freeze()
    print(api.port, flush=True)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        print(json.dumps(await api.command(line.decode().split())), flush=True)
    bookmarks.cancel()
    for watch in api.watches:
        watch.ended.set()
    await api.runner.cleanup()


def main() -> None:
    """Runs the API server with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, default=1, help="endpoints of each Service")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--streams", action="store_true", help="offer streamed lists")
    options = parser.parse_args()
    end_with_parent()
    asyncio.run(serve(Cluster(options.services, options.endpoints), options.port, streams=options.streams))


if __name__ == "__main__":
    main()
