"""Transfers zones from primary servers over TCP (AXFR, RFC 5936), and asks them for their serials.

A primary server may be hostile: a transfer has limits for its time, its octets and its records. A reply that breaks a
rule of RFC 5936 §2.2 is an error, and nothing of it is used.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import Final

from svcdns.upstream.query import Address, ExchangeError, address_text
from svcdns.wire import names
from svcdns.wire.codes import QR, Class, Rcode, Type, rcode_text
from svcdns.wire.errors import FormError
from svcdns.wire.message import Message, encode_query, parse_transfer_message
from svcdns.wire.record import Record

READ_TIMEOUT: Final = 10.0
"""Seconds to wait for a connection, and for each message."""
MAX_SECONDS: Final = 600.0
"""Seconds that a whole transfer may take."""
MAX_OCTETS: Final = 128 << 20
"""The most octets of the messages of a transfer."""
MAX_RECORDS: Final = 2_000_000
"""The most records of a zone."""


async def fetch_serial(zone: bytes, server: Address) -> int:
    """Returns the serial of a zone at a primary server. Raises ExchangeError."""
    async with asyncio.timeout(MAX_SECONDS):
        async with aclosing(_messages(zone, Type.SOA, server)) as messages:
            async for message in messages:
                for record in message.answer:
                    if record.rtype == Type.SOA and record.owner.lower() == zone:
                        return int.from_bytes(record.rdata[-20:-16], "big")
                break
    raise ExchangeError(f"{address_text(server)}: no SOA record for {names.to_text(zone)}")


async def fetch_zone(zone: bytes, server: Address, pause: Callable[[], object]) -> list[Record]:
    """Returns the records of a zone, with its SOA record first and without the one at the end. Raises ExchangeError.

    `zone` is in wire format and lower case. Records outside of the zone are left out. Calls `pause` after each message.
    """
    try:
        async with asyncio.timeout(MAX_SECONDS):
            async with aclosing(_messages(zone, Type.AXFR, server)) as messages:
                return await _records(messages, zone, server, pause)
    except TimeoutError:
        raise ExchangeError(f"{address_text(server)}: the transfer takes more than {MAX_SECONDS:g} s") from None


async def _records(
    messages: AsyncIterator[Message], zone: bytes, server: Address, pause: Callable[[], object]
) -> list[Record]:
    found: list[Record] = []
    async for message in messages:
        for record in message.answer:
            is_soa = record.rtype == Type.SOA and record.owner.lower() == zone
            if not found and not is_soa:
                raise ExchangeError(f"{address_text(server)}: the transfer does not begin with the SOA record")
            if found and is_soa:
                if record.rdata != found[0].rdata:
                    raise ExchangeError(f"{address_text(server)}: the transfer ends with another SOA record")
                return found
            if record.rclass == Class.IN and names.is_within(record.owner.lower(), zone):
                found.append(record)
        if len(found) > MAX_RECORDS:
            raise ExchangeError(f"{address_text(server)}: the zone has more than {MAX_RECORDS} records")
        pause()
        await asyncio.sleep(0)
    raise ExchangeError(f"{address_text(server)}: the transfer has no end")


async def _messages(zone: bytes, rtype: int, server: Address) -> AsyncGenerator[Message, None]:
    """Sends a query, and yields the messages of the reply until the connection ends. Raises ExchangeError."""
    try:
        async with asyncio.timeout(READ_TIMEOUT):
            reader, writer = await asyncio.open_connection(*server)
    except (OSError, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or "no connection in time"
        raise ExchangeError(f"{address_text(server)}: {reason}") from error
    try:
        ident = int.from_bytes(os.urandom(2), "big")
        query = encode_query(ident, 0, zone, rtype, Class.IN, None)
        writer.write(len(query).to_bytes(2, "big") + query)
        octets = 0
        while True:
            async with asyncio.timeout(READ_TIMEOUT):
                size = int.from_bytes(await reader.readexactly(2), "big")
                packet = await reader.readexactly(size)
            octets += size
            if octets > MAX_OCTETS:
                raise ExchangeError(f"{address_text(server)}: the zone has more than {MAX_OCTETS} octets")
            yield _checked(parse_transfer_message(packet), ident, zone, rtype, server)
    except asyncio.IncompleteReadError:
        return
    except (OSError, TimeoutError, FormError) as error:
        reason = str(error) or "no message in time"
        raise ExchangeError(f"{address_text(server)}: {reason}") from error
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def _checked(message: Message, ident: int, zone: bytes, rtype: int, server: Address) -> Message:
    if message.ident != ident or not message.flags & QR:
        raise ExchangeError(f"{address_text(server)}: a message that is no reply to the query")
    if message.rcode != Rcode.NOERROR:
        raise ExchangeError(f"{address_text(server)}: {rcode_text(message.rcode)}")
    if message.name and (message.name.lower() != zone or message.rtype != rtype):
        raise ExchangeError(f"{address_text(server)}: a reply to another question")
    return message
