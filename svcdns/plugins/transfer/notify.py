"""Telling a secondary that a zone is new (RFC 1996): a question with opcode NOTIFY, tried three times."""

from __future__ import annotations

import logging
from typing import Final

from svcdns.upstream.query import Address, ExchangeError, Question, shown
from svcdns.upstream.udp import over_udp
from svcdns.wire import names
from svcdns.wire.codes import AA, Class, Opcode, Rcode, Type, rcode_text

TRIES: Final = 3
PATIENCE: Final = 2.0
"""Seconds that each try waits for the answer."""


async def notify(zone: bytes, address: Address, source: str, log: logging.Logger) -> None:
    """Tells one address; a log line says if it does not take it. `source` is the address to send from, empty for any."""
    question = Question(zone, Type.SOA, Class.IN, Opcode.NOTIFY << 11 | AA)
    reason = ""
    for _ in range(TRIES):
        try:
            rcode = (await over_udp(question, address, PATIENCE, source)).flags & 15
        except ExchangeError as error:
            reason = str(error)
            continue
        if rcode == Rcode.NOERROR:
            return
        reason = f"{shown(address)}: {rcode_text(rcode)}"
    log.warning("zone %s: notification not accepted: %s", names.to_text(zone), reason)
