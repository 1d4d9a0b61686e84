"""An API server of a large cluster that costs next to nothing: `python -m bench.api --services 10000 --endpoints 10`.

Every object is kept encoded, so that a list is a join of octets and an event is encoded once for all watches: what is measured is
the reader. It lists in pages, watches from any version of its history, refuses older ones with 410, and refuses streamed lists with
422, as a server without them does.

It prints its port, then takes one command a line on its standard input and answers each with one line of JSON, until the input ends:
  change NUMBER...      moves the first endpoint of these Services; gives the address that each has now
  churn RATE SECONDS    moves endpoints of random Services, in the background
  flood COUNT           moves endpoints as fast as the watches take it; answers at the end
  relist                forgets its history and ends every watch with 410
  changes               how many changes it has made
  watches               how many watches of each resource are open
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import sys
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
"""Events kept for watches that begin later."""

EXPIRED = (
    b'{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,"message":"too old"}}\n'
)


@dataclass(eq=False)
class Watch:
    """An open watch; it ends when `over` is set."""

    resource: str
    response: web.StreamResponse
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Api:
    """The objects, and the watches on them."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.version = 1000
        self.oldest = self.version
        self.variant = 0
        self.kept: dict[str, dict[str, bytes]] = {resource: {} for resource, _, _ in PATHS.values()}
        self.history: deque[tuple[int, str, bytes]] = deque(maxlen=HISTORY)
        self.watches: list[Watch] = []
        self.pages: dict[str, list[bytes]] = {}
        for resource, item in objects(cluster):
            self.store(resource, item)

    def store(self, resource: str, item: dict[str, Any]) -> bytes:
        """Keeps an object under a new version; its JSON."""
        self.version += 1
        metadata = item["metadata"]
        metadata["resourceVersion"] = str(self.version)
        body = msgspec.json.encode(item)
        self.kept[resource][f"{metadata.get('namespace', '')}/{metadata['name']}"] = body
        return body

    async def move(self, number: int) -> str:
        """Moves the first endpoint of a Service; its address now."""
        self.variant += 1
        body = self.store(SLICES, slice_object(self.cluster, number, self.variant))
        line = b'{"type":"MODIFIED","object":{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1",%b}\n' % body[1:]
        if len(self.history) == HISTORY:
            self.oldest = self.history[0][0]
        self.history.append((self.version, SLICES, line))
        for watch in self.watches:
            if watch.resource == SLICES:
                await watch.response.write(line)
        return moved(self.variant)

    # -- HTTP

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """A list or a watch of a resource."""
        resource, version, kind = PATHS[request.path]
        if "sendInitialEvents" in request.query:
            return refusal(422, "Invalid", "streamed lists are not served")
        if request.query.get("watch", "") in {"true", "1"}:
            return await self.watch(request, resource)
        return self.page(request, resource, version, kind)

    def page(self, request: web.Request, resource: str, version: str, kind: str) -> web.Response:
        """One page, or everything where the reader takes any version, as a real server does."""
        snapshot, _, start = request.query.get("continue", "").partition("@")
        items = self.pages.get(snapshot) if snapshot else list(self.kept[resource].values())
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
        return web.Response(body=b"%b%b]}" % (head.encode(), b",".join(items[first:end])), content_type="application/json")

    async def watch(self, request: web.Request, resource: str) -> web.StreamResponse:
        """Every event after a version, until one of the two sides ends it."""
        since = int(request.query.get("resourceVersion") or 0)
        if since < self.oldest:
            return refusal(410, "Expired", "too old resource version")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for version, changed, line in self.history:
            if changed == resource and version > since:
                await response.write(line)
        watch = Watch(resource, response)
        self.watches.append(watch)
        try:
            await watch.over.wait()
        finally:
            if watch in self.watches:
                self.watches.remove(watch)
        return response

    # -- commands

    async def command(self, words: list[str]) -> Any:
        """Does one command; what to answer."""
        match words:
            case ["change", *numbers]:
                return [await self.move(int(number)) for number in numbers]
            case ["churn", rate, seconds]:
                self.background = asyncio.ensure_future(self.churn(float(rate), float(seconds)))
                return True
            case ["flood", count]:
                chosen = random.Random(self.variant)
                for number in range(int(count)):
                    await self.move(chosen.randrange(self.cluster.services))
                    if number % 100 == 0:
                        await asyncio.sleep(0)
                return int(count)
            case ["relist"]:
                self.version += 1
                self.oldest = self.version
                self.history.clear()
                ended, self.watches = self.watches, []
                for watch in ended:
                    await watch.response.write(EXPIRED)
                    watch.over.set()
                return len(ended)
            case ["changes"]:
                return self.variant
            case ["watches"]:
                open_now = [watch.resource for watch in self.watches]
                return {resource: open_now.count(resource) for resource, _, _ in PATHS.values()}
        raise ValueError(f"no such command: {words}")

    async def churn(self, rate: float, seconds: float) -> None:
        """Moves endpoints of random Services, evenly in time."""
        loop = asyncio.get_running_loop()
        chosen = random.Random(self.variant)
        begin = loop.time()
        for count in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, begin + count / rate - loop.time()))
            await self.move(chosen.randrange(self.cluster.services))


def refusal(code: int, reason: str, message: str) -> web.Response:
    """A Status."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": message}
    return web.json_response(body, status=code)


async def serve(cluster: Cluster, port: int) -> None:
    """Serves until the standard input ends."""
    api = Api(cluster)
    app = web.Application()
    for path in PATHS:
        app.router.add_get(path, api.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    gc.collect()
    gc.freeze()
    print(runner.addresses[0][1], flush=True)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        print(json.dumps(await api.command(line.decode().split())), flush=True)
    for watch in api.watches:
        watch.over.set()
    await runner.cleanup()


def main() -> None:
    """Serves a cluster."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, default=1, help="endpoints of each Service")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    end_with_parent()
    asyncio.run(serve(Cluster(options.services, options.endpoints), options.port))


if __name__ == "__main__":
    main()
