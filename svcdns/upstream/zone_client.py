"""Transfers zones from primary servers over TCP: whole (AXFR, RFC 5936), or the differences from a version that the
server has (IXFR, RFC 1995). IXFR may also use UDP.

A primary server may be hostile: a transfer has limits for its time, its octets and its records. Nothing of a transfer
that breaks a rule is used (see `wire.zone_differences`).
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Final

from svcdns.upstream.query import Address, ExchangeError, UpstreamQuery, address_text, random_id
from svcdns.upstream.udp import exchange_over_udp
from svcdns.wire import names
from svcdns.wire.codes import QR, TC, Class, Rcode, Type, rcode_text
from svcdns.wire.errors import FormError
from svcdns.wire.message import Message, encode_query, parse_transfer_message
from svcdns.wire.record import Edns, Record
from svcdns.wire.tcp_framing import framed
from svcdns.wire.zone_differences import TransferReader, ZoneTransfer, serial_of

READ_TIMEOUT: Final = 10.0
"""Seconds to wait for a connection, and for each message."""
UDP_TIMEOUT: Final = 2.0
"""Seconds to wait for the reply to an IXFR query over UDP."""
MAX_SECONDS: Final = 600.0
"""Seconds that a whole transfer may take."""
MAX_OCTETS: Final = 128 << 20
"""The most octets of the messages of a transfer."""
UDP_SIZE: Final = 1232
"""The UDP payload size that an IXFR query advertises."""
_HEADER: Final = 12
"""Octets of the header."""
_COUNT_OF_AUTHORITIES: Final = 8
"""The offset of the number of authority records in the header."""


class UnreachableError(ExchangeError):
    """Raised if a primary server accepts no connection."""


async def fetch_serial(zone: bytes, server: Address) -> int:
    """Returns the serial of a zone at a primary server. Raises ExchangeError."""
    async with asyncio.timeout(MAX_SECONDS):
        async with aclosing(_messages(zone, Type.SOA, server, None)) as messages:
            async for message in messages:
                for record in message.answer:
                    if record.rtype == Type.SOA and record.owner.lower() == zone:
                        return serial_of(record)
                break
    raise ExchangeError(f"{address_text(server)}: no SOA record for {names.to_text(zone)}")


async def fetch_zone(
    zone: bytes, server: Address, pause: Callable[[], object], known: Record | None = None
) -> ZoneTransfer:
    """Transfers a zone. `known` is the SOA record of the version that is known; None for a whole zone.

    `zone` is in wire format and lower case. Calls `pause` after each message. Raises ExchangeError.
    """
    reader = TransferReader(zone, None if known is None else serial_of(known))
    try:
        async with asyncio.timeout(MAX_SECONDS):
            async with aclosing(_messages(zone, Type.AXFR if known is None else Type.IXFR, server, known)) as messages:
                async for message in messages:
                    found = reader.read(message.answer)
                    if found is not None:
                        return found
                    pause()
                    await asyncio.sleep(0)
    except TimeoutError:
        raise ExchangeError(f"{address_text(server)}: the transfer takes more than {MAX_SECONDS:g} s") from None
    except FormError as error:
        raise ExchangeError(f"{address_text(server)}: {error}") from error
    raise ExchangeError(f"{address_text(server)}: the transfer has no end")


async def fetch_over_udp(zone: bytes, server: Address, known: Record) -> ZoneTransfer | None:
    """Asks for the differences from a version over UDP. Returns None if the client must use TCP (RFC 1995 §2).

    Raises ExchangeError.
    """
    packet = _query(0, zone, Type.IXFR, known, Edns(UDP_SIZE))
    query = UpstreamQuery(zone, Type.IXFR, Class.IN, 0, Edns(UDP_SIZE), packet[2:])
    message = await exchange_over_udp(query, server, UDP_TIMEOUT)
    if message.flags & TC or message.rcode != Rcode.NOERROR:
        return None
    try:
        return TransferReader(zone, serial_of(known)).read(message.answer)
    except FormError as error:
        raise ExchangeError(f"{address_text(server)}: {error}") from error


async def _messages(zone: bytes, rtype: int, server: Address, known: Record | None) -> AsyncGenerator[Message, None]:
    """Sends a query, and yields the messages of the reply until the connection ends. Raises ExchangeError."""
    try:
        async with asyncio.timeout(READ_TIMEOUT):
            reader, writer = await asyncio.open_connection(*server)
    except (OSError, TimeoutError) as error:
        # asyncio's strerror has the text of Python, with the address in it
        number = getattr(error, "errno", None)
        reason = os.strerror(number).lower() if number and number > 0 else str(error) or "no connection in time"
        raise UnreachableError(f"{address_text(server)}: {reason}") from error
    try:
        ident = random_id()
        writer.write(framed(_query(ident, zone, rtype, known)))
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


def _query(ident: int, zone: bytes, rtype: int, known: Record | None, edns: Edns | None = None) -> bytes:
    """Returns a query. If `known` is given, the authority section has this SOA record (RFC 1995 §3)."""
    query = encode_query(ident, 0, zone, rtype, Class.IN, edns)
    if known is None:
        return query
    at, end = _COUNT_OF_AUTHORITIES, _HEADER + len(zone) + 4
    soa = zone + struct.pack("!HHIH", Type.SOA, Class.IN, 0, len(known.rdata)) + known.rdata
    return query[:at] + b"\0\1" + query[at + 2 : end] + soa + query[end:]


def _checked(message: Message, ident: int, zone: bytes, rtype: int, server: Address) -> Message:
    if message.ident != ident or not message.flags & QR:
        raise ExchangeError(f"{address_text(server)}: a message that is no reply to the query")
    if message.rcode != Rcode.NOERROR:
        raise ExchangeError(f"{address_text(server)}: {rcode_text(message.rcode)}")
    if message.name and (message.name.lower() != zone or message.rtype != rtype):
        raise ExchangeError(f"{address_text(server)}: a reply to another question")
    return message
