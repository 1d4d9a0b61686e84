"""The cost of the first list of a cluster, in pages and as a stream: `python -m bench.lists`.

The objects of Services and EndpointSlices are read, decoded, reduced to the fields that svcdns needs, and stored. A
stream is a watch with initial events (WatchList). The table has medians: CPU seconds, seconds, octets received, and
memory at the peak and at the end. With `--kubeconfig PATH`, the objects come from a real API server.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import statistics
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec

from bench import machine
from bench.processes import Helper
from svcdns.cluster.changes import Begin, Complete, Put
from svcdns.cluster.watch_options import WatchOptions
from svcdns.conformance.api import connect
from svcdns.control.cluster_view import ClusterView
from svcdns.sources.api.credentials import Credentials
from svcdns.sources.api.paging import PageLimit
from svcdns.sources.api.resources import Resource, watched

WAYS = ("pages, gzip", "pages", "stream")


class Reader:
    """Reads the objects of resources from an API server, and counts the octets received."""

    def __init__(self, session: Any, access: Any) -> None:
        self._session, self._access = session, access
        self.octets = 0

    def _get(self, resource: Resource, query: dict[str, str], encoding: str) -> Any:
        headers = {**self._access.headers, "Accept-Encoding": encoding}
        return self._session.get(
            self._access.url + resource.path, params=query, headers=headers, ssl=self._access.ssl or True
        )

    async def pages(self, resource: Resource, encoding: str) -> AsyncGenerator[list[Any], None]:
        """Lists a resource page by page, and yields the objects of each page, reduced to the fields that svcdns needs.

        `encoding` is the HTTP content coding.
        """
        limit, token = PageLimit(), ""
        while True:
            query = {"limit": str(limit.next)} | ({"continue": token} if token else {})
            async with self._get(resource, query, encoding) as response:
                body = await response.read()
                self.octets += len(body)
                if response.headers.get("Content-Encoding") == "gzip":
                    body = zlib.decompress(body, 31)
            limit.took(len(body))
            objects, metadata, _ = resource.decoder.page(body)
            del body
            yield objects
            token = metadata.token or ""
            if not token:
                return

    async def stream(self, resource: Resource) -> AsyncGenerator[list[Any], None]:
        """Opens a watch with initial events. Yields the objects of each chunk of the response, until the list is
        complete.

        The objects are reduced to the fields that svcdns needs.
        """
        query = {"watch": "true", "allowWatchBookmarks": "true", "sendInitialEvents": "true"}
        query |= {"resourceVersionMatch": "NotOlderThan", "timeoutSeconds": "60"}
        api_type = resource.decoder._decode_object.__self__.type  # type: ignore[attr-defined]  # noqa: SLF001
        decode = msgspec.json.Decoder(msgspec.defstruct("Event", [("type", str), ("object", api_type)])).decode_lines
        trim, rest = resource.decoder._trim, b""  # noqa: SLF001
        async with self._get(resource, query, "identity") as response:
            async for chunk in response.content.iter_any():
                self.octets += len(chunk)
                lines, _, rest = (rest + chunk).rpartition(b"\n")
                events: list[Any] = decode(lines) if lines else []
                yield [kept for event in events if event.type == "ADDED" and (kept := trim(event.object)) is not None]
                if events and events[-1].type == "BOOKMARK":
                    return


async def read(way: str, options: WatchOptions) -> dict[str, float]:
    """Reads all objects in one of the WAYS. Returns CPU seconds, seconds, octets and memory by name."""
    access = await Credentials(options, clock=time.monotonic, log=logging.getLogger("lists")).access()
    count = 0
    async with connect(access, unpack=False) as session:
        async with session.get(access.url + "/version", headers=access.headers, ssl=access.ssl or True) as response:
            await response.read()
        reader = Reader(session, access)
        gc.collect()
        begin, cpu = time.monotonic(), time.process_time()
        views = []
        for resource in watched(options):
            view = ClusterView(1, (resource.kind,), time.time)
            views.append(view)
            view.apply(Begin(resource.kind))
            encoding = "gzip" if "gzip" in way else "identity"
            async with aclosing(
                reader.stream(resource) if way == "stream" else reader.pages(resource, encoding)
            ) as batches:
                async for objects in batches:
                    for item in objects:
                        view.apply(Put(item))
                    count += len(objects)
            view.apply(Complete(resource.kind))
        cpu, seconds = time.process_time() - cpu, time.monotonic() - begin
    gc.collect()
    memory = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    peak, held = (int(memory[name].split()[0]) / 1024 for name in ("VmHWM", "VmRSS"))
    return {"objects": count, "cpu": cpu, "seconds": seconds, "octets": reader.octets, "peak": peak, "held": held}


def main() -> int:
    """Starts a process for each measurement, and prints the table. With the internal option `--read`, measures once."""
    parser = argparse.ArgumentParser(
        "python -m bench.lists", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kubeconfig", default="", help="of an API server (default: start bench.api)")
    parser.add_argument("--services", type=int, default=10_000)
    parser.add_argument("--endpoints", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--read", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--endpoint", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(
            json.dumps(
                asyncio.run(read(options.read, WatchOptions(kubeconfig=options.kubeconfig, endpoint=options.endpoint)))
            )
        )
        return 0
    api = None
    source = ["--kubeconfig", options.kubeconfig]
    if not options.kubeconfig:
        size = ("--services", str(options.services), "--endpoints", str(options.endpoints), "--streams")
        api = Helper("bench.api", *size, cpus=sorted(os.sched_getaffinity(0)))
        source = ["--endpoint", f"http://127.0.0.1:{api.port}"]
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            command = [sys.executable, "-m", "bench.lists", "--read", way, *source]
            found[way].append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    if api is not None:
        api.close()
    print(table(found))
    print(f"\n{options.rounds} rounds, commit {machine.commit()}")
    return 0


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Returns the medians of the measured costs as a Markdown table, with a line for each way of reading."""
    lines = [
        "| | Objects | CPU, s | Time, s | MB received | Peak memory, MiB | Memory at the end, MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for way, rounds in found.items():
        of = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
        lines.append(
            f"| {way} | {of['objects']:,.0f} | {of['cpu']:.2f} | {of['seconds']:.2f} | {of['octets'] / 1e6:.1f} "
            f"| {of['peak']:.1f} | {of['held']:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
