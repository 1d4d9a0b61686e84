"""Queries with a TSIG record, and the signed replies to them (RFC 8945).

A listener looks for TSIG records only if one of its blocks has the plugin *tsig*. The keys of all its blocks are used.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from svcdns.chain.routing import Listener
from svcdns.serving.zone_stream import Outlet
from svcdns.wire import tsig
from svcdns.wire.codes import OPCODE_MASK, QR, Rcode
from svcdns.wire.errors import FormError
from svcdns.wire.message import MIN_UDP
from svcdns.wire.request import HEADER, Rejected, malformed, read_query_name

Send = Callable[[bytes], None]


class SignedQuery:
    """The signature of a query, and the result of its verification: 0, or a TSIG error."""

    def __init__(self, signature: tsig.Signature, secret: bytes | None) -> None:
        """`secret` is the secret of the signature's key, or None for an unknown key."""
        self._signature, self._secret = signature, secret
        self.error = tsig.check(signature, secret, int(time.time()))

    def signer(self, limit: int) -> tsig.Signer:
        """Returns an object that signs the messages of the reply, with at most `limit` octets each."""
        return tsig.Signer(self._signature, self._secret or b"", self.error, limit, time.time)


def split(packet: bytes, listener: Listener) -> tuple[bytes, SignedQuery | Rejected | None]:
    """Returns a packet without its TSIG record, and the verified signature.

    In place of the signature, returns None if there is no TSIG record, and a Rejected if the record is malformed.
    """
    try:
        signature = tsig.find(packet)
    except FormError:
        return packet, malformed(packet)
    if signature is None:
        return packet, None
    secrets = (secret for find in listener.tsig_secrets if (secret := find(signature.key)) is not None)
    return signature.packet, SignedQuery(signature, next(secrets, None))


def signing(send: Send, signer: tsig.Signer) -> Send:
    """Returns a function that signs a reply, and passes the signed reply to `send`."""
    return lambda wire: send(signer.sign(wire))


def signing_outlet(outlet: Outlet | None, signer: tsig.Signer) -> Outlet | None:
    """Returns an outlet that signs each message. Returns None if there is no outlet."""
    return None if outlet is None else _SigningOutlet(outlet, signer)


class _SigningOutlet:
    def __init__(self, outlet: Outlet, signer: tsig.Signer) -> None:
        self._outlet, self._signer = outlet, signer

    async def more(self, wire: bytes) -> None:
        await self._outlet.more(self._signer.sign(wire))

    def abort(self) -> None:
        self._outlet.abort()


def answer_other_opcode(packet: bytes, wire: bytes, signed: SignedQuery | None, listener: Listener) -> bytes:
    """Returns the reply to a message with another opcode than QUERY, such as NOTIFY.

    `packet` has no TSIG record, and `wire` is the reply to a permitted message. A message without a
    required signature gets REFUSED. A message with an invalid signature gets NOTAUTH.
    """
    try:
        name, at = read_query_name(packet)
    except FormError:
        return wire
    key, rtype = name.lower(), int.from_bytes(packet[at : at + 2], "big")
    route = listener.find(key, rtype)
    rules = None if route is None else route.tsig
    ident, flags, questions = HEADER.unpack_from(packet)[:3]
    if rules is None or not rules.covers(key) or questions != 1 or len(packet) < at + 4:
        return wire
    if signed is None:
        return (
            _error(packet[: at + 4], ident, flags, Rcode.REFUSED) if rules.requires(rtype, flags >> 11 & 15) else wire
        )
    if signed.error:
        wire = _error(packet[: at + 4], ident, flags, Rcode.NOTAUTH)
    return signed.signer(MIN_UDP).sign(wire)


def _error(question: bytes, ident: int, flags: int, rcode: int) -> bytes:
    """Returns a reply with only a header and a question. `question` is the query up to the end of its question."""
    return HEADER.pack(ident, QR | flags & OPCODE_MASK | rcode, 1, 0, 0, 0) + question[HEADER.size :]
