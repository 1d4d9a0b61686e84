"""Sending a reply that is made while it is sent: a zone transfer, over a connection (RFC 5936).

Rules: making records takes no longer than a time slice at once; a client that does not read stops the making of
records, so that no more of a zone is in memory than one message and what the connection buffers; a transfer that cannot
be finished ends with the connection, so that no client takes half a zone for a whole one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from svcdns.eventloop.time_slice import TimeSlice
from svcdns.plugin_api.reply import Reply
from svcdns.wire.request import Request
from svcdns.wire.transfer_messages import TransferMessages

log = logging.getLogger("svcdns")


class Outlet(Protocol):
    """A connection that takes several messages for one query."""

    async def more(self, wire: bytes) -> None:
        """Sends a message before the last one; returns when the client takes more. Raises ConnectionError."""
        ...

    def abort(self) -> None:
        """Ends the connection at once."""
        ...


async def send(
    request: Request, reply: Reply, outlet: Outlet, last: Callable[[bytes], None], echoed: frozenset[int]
) -> int:
    """Sends the records of `reply.stream`; `last` takes the final message. Returns the octets that were sent."""
    assert reply.stream is not None
    stream, messages = reply.stream, TransferMessages(request, reply, echoed)
    size, slice_ = 0, TimeSlice()
    try:
        for portion in stream:
            for record in portion:
                wire = messages.add(record)
                if wire is not None:
                    size += len(wire)
                    await outlet.more(wire)
                if slice_.is_over:
                    await slice_.pause()
            if slice_.is_over:  # a portion may be empty, and take as long
                await slice_.pause()
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
