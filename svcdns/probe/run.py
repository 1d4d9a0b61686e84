"""Runs the measurements of a probe for some time, and serves their metrics."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import start_http_server

from svcdns.conformance.api import Api, api_of
from svcdns.conformance.errors import ConformanceError
from svcdns.probe.errors import ProbeError
from svcdns.probe.latency import Asked, measure, query
from svcdns.probe.measurements import Measurements
from svcdns.probe.programming import changes
from svcdns.shadow.asking import address, asking
from svcdns.wire.codes import Type


@dataclass(frozen=True, slots=True)
class Plan:
    """What a probe measures.

    - `rate` is the number of queries a second for `name` to each server.
    - `namespace` is the namespace of the objects that are changed every `every` seconds. If it is empty, the probe
      changes nothing.
    - `seconds` is the time after which the probe ends. 0 means that it ends with SIGINT or SIGTERM.
    - `listen` is the address of the metrics as `HOST:PORT`, or an empty text.
    """

    servers: Sequence[str]
    name: str
    rate: float
    timeout: float
    seconds: float = 0.0
    listen: str = ""
    namespace: str = ""
    zone: str = "cluster.local."
    every: float = 10.0
    kubeconfig: str = ""
    context: str = ""


async def run(plan: Plan, measurements: Measurements) -> None:
    """Measures until the plan's time is over. Raises ProbeError and ShadowError."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    try:
        async with contextlib.AsyncExitStack() as stack:
            _serve(plan.listen, measurements, stack)
            asked = [
                Asked(text, await stack.enter_async_context(asking(text, plan.timeout, 1))) for text in plan.servers
            ]
            tasks = [
                asyncio.create_task(measure(one, query(plan.name, Type.A), plan.rate, measurements)) for one in asked
            ]
            if plan.namespace:
                tasks.append(asyncio.create_task(_change(plan, asked, measurements)))
            tasks.append(asyncio.create_task(_until(ended, plan.seconds)))
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                _note_silent(asked, measurements)
            for task in done:
                task.result()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _note_silent(asked: Sequence[Asked], measurements: Measurements) -> None:
    """Counts a failure for each server that has not replied yet, when the probe ends before the time limit."""
    for one in asked:
        if (one.label, "query") not in measurements.kinds():
            measurements.failed(one.label, "timeout")


async def _until(ended: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(ended.wait(), seconds or None)


async def _change(plan: Plan, asked: Sequence[Asked], measurements: Measurements) -> None:
    """Changes one object after the other, until the task is cancelled."""
    try:
        async with api_of(plan.kubeconfig, plan.context) as api:
            await _change_again(api, plan, asked, measurements)
    except ConformanceError as error:
        raise ProbeError(str(error)) from error


async def _change_again(api: Api, plan: Plan, asked: Sequence[Asked], measurements: Measurements) -> None:
    async with changes(api, plan.namespace, plan.zone) as found:
        while True:
            for change in found:
                await change.measure(api, asked, measurements)
                await asyncio.sleep(plan.every / len(found))


def _serve(listen: str, measurements: Measurements, stack: contextlib.AsyncExitStack) -> None:
    if not listen:
        return
    host, port = address(listen)
    try:
        server, thread = start_http_server(port, host, measurements.registry)
    except OSError as error:
        raise ProbeError(f"metrics cannot be served on {listen}: {error.strerror or error}") from error
    stack.callback(thread.join)
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
