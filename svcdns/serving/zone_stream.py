"""Sends a zone transfer over a connection, and makes its records while it sends (RFC 5936).

Rules:

1. After each time slice of making records, other work runs.
2. While the client does not read, no records are made.
3. If a transfer fails, the connection is closed, so that the client does not use an incomplete zone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from svcdns.eventloop.time_slice import TimeSlice
from svcdns.log_line import LogLine
from svcdns.plugin_api.reply import Reply
from svcdns.telemetry.logging import LineLimit
from svcdns.wire.request import Request
from svcdns.wire.transfer_messages import TransferMessages

log = logging.getLogger("svcdns")
_limit = LineLimit()


class Outlet(Protocol):
    """A connection that can send several messages for one query."""

    async def more(self, wire: bytes) -> None:
        """Sends a message that is not the last one of its reply. Waits while the client does not read.

        Raises ConnectionError if the connection is closed.
        """
        ...

    def abort(self) -> None:
        """Closes the connection."""
        ...


async def send(
    request: Request, reply: Reply, outlet: Outlet, last: Callable[[bytes], None], echoed: frozenset[int], udp_size: int
) -> int:
    """Sends the records of `reply.stream` in several messages. Returns the number of octets that were sent.

    `outlet` sends all messages but the last one, which `last` sends. `echoed` has the codes of the EDNS options that a
    reply copies from the query. `udp_size` is the UDP payload size that the server advertises.
    """
    assert reply.stream is not None
    stream, messages = reply.stream, TransferMessages(request, reply, echoed, udp_size)
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
            if slice_.is_over:  # a portion may be empty, but take long to make
                await slice_.pause()
        wire = messages.last()
        last(wire)
        return size + len(wire)
    except ConnectionError:
        return size
    except Exception as error:  # noqa: BLE001 - whatever the plugin that makes the records raises
        _limit.log(log, logging.ERROR, LogLine("a zone transfer failed"), error=error)
        outlet.abort()
        return size
    finally:
        stream.close()
