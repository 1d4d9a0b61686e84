"""Sending a reply that is made while it is sent: a zone transfer, over a connection.

Rules: between two looks at the worker's sockets passes no more than SLICE; a client that does not read stops the making of
records, so that no more of a zone is in memory than one message and what the connection buffers; a transfer that cannot be finished
ends with the connection, so that nobody takes half a zone for a whole one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import perf_counter
from typing import Final, Protocol

from svcdns.plugin_api.reply import Reply
from svcdns.wire.request import Request
from svcdns.wire.transfer_messages import TransferMessages

SLICE: Final = 0.0002
"""Seconds of making and encoding records after which everything else of the worker gets its turn."""

log = logging.getLogger("svcdns")


class Outlet(Protocol):
    """A connection that takes several messages for one question."""

    async def more(self, wire: bytes) -> None:
        """Sends a message that others follow; returns when the client takes more. Raises ConnectionError when it is gone."""
        ...

    def abort(self) -> None:
        """Ends the connection at once."""
        ...


async def send(request: Request, reply: Reply, outlet: Outlet, last: Callable[[bytes], None], echoed: frozenset[int]) -> int:
    """Sends what `reply.stream` gives; `last` takes the final message. The octets that were sent."""
    assert reply.stream is not None
    stream, messages = reply.stream, TransferMessages(request, reply, echoed)
    size, began = 0, perf_counter()
    try:
        for portion in stream:
            for record in portion:
                wire = messages.add(record)
                if wire is not None:
                    size += len(wire)
                    await outlet.more(wire)
                if perf_counter() - began > SLICE:
                    await asyncio.sleep(0)
                    began = perf_counter()
            if perf_counter() - began > SLICE:
                await asyncio.sleep(0)
                began = perf_counter()
        wire = messages.last()
        last(wire)
        return size + len(wire)
    except ConnectionError:
        return size
    except Exception:
        log.exception("a zone transfer failed")
        outlet.abort()
        return size
    finally:
        stream.close()
