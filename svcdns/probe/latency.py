"""Measures the time from a query to its reply: the Kubernetes SLI of DNS latency inside the cluster."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from svcdns.probe.measurements import Measurements
from svcdns.shadow.asking import Server
from svcdns.wire import names
from svcdns.wire.codes import RD, Class, Rcode, rcode_text
from svcdns.wire.message import encode_query


class Asked(NamedTuple):
    """A server: its address, and the text with which the user named the server."""

    label: str
    server: Server


def query(name: str, rtype: int) -> bytes:
    """Returns an encoded query with the id 0. Raises NameTextError."""
    return encode_query(0, RD, names.from_text(name), rtype, Class.IN, None)


async def measure(asked: Asked, packet: bytes, rate: float, measurements: Measurements) -> None:
    """Sends `rate` queries a second at even intervals, until the task is cancelled.

    A query does not wait for the reply to the previous query.
    """
    due = time.monotonic()
    async with asyncio.TaskGroup() as group:
        while True:
            group.create_task(once(asked, packet, measurements))
            due = max(due + 1 / rate, time.monotonic() - 1 / rate)
            await asyncio.sleep(max(0.0, due - time.monotonic()))


async def once(asked: Asked, packet: bytes, measurements: Measurements) -> None:
    """Sends one query, and counts its reply. NOERROR and NXDOMAIN are expected replies."""
    received = await asked.server.ask(packet)
    if received.octets is None:
        measurements.failed(asked.label, "timeout")
        return
    rcode = received.octets[1] & 15
    if rcode in (Rcode.NOERROR, Rcode.NXDOMAIN):
        measurements.answered(asked.label, received.seconds)
    else:
        measurements.failed(asked.label, rcode_text(rcode))
