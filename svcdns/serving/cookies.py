"""DNS cookies (RFC 7873) in the format that servers of different vendors share (RFC 9018).

A server cookie proves that the client has received a reply at its address before. This module makes and checks server
cookies. All workers use the secrets in shared memory (`svcdns.process.cookie_secrets`), also after an upgrade in place.
Each day there is a new secret; the previous one stays valid.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from hmac import compare_digest
from time import time
from typing import Final, NamedTuple

from svcdns.process.cookie_secrets import BASE_SIZE, SECRET_SIZE, read_secrets
from svcdns.serving.siphash import siphash24

CLIENT_SIZE: Final = 8
SERVER_SIZE: Final = 16
ROTATION: Final = 86400
"""The seconds for which a derived secret is used for new cookies."""
MAX_AGE: Final = 3600
"""The seconds for which a server cookie is valid (RFC 9018 §4.3)."""
MAX_AHEAD: Final = 300
"""The seconds by which the clock of another server may be ahead (RFC 9018 §4.3)."""
RENEW_AFTER: Final = 1800
"""The seconds after which a client gets a new server cookie for a valid one (RFC 9018 §4.3)."""
_VERSION: Final = b"\1\0\0\0"
"""The version of RFC 9018 and three reserved octets."""


class _Verified(NamedTuple):
    """A valid server cookie: its age in seconds, and whether it was made with the secret for new cookies."""

    age: int
    is_current: bool


class Cookies:
    """Makes and checks server cookies. `page` is the shared memory with the secrets."""

    def __init__(self, page: memoryview, clock: Callable[[], float] = time) -> None:
        """`clock` returns Unix seconds. All servers of an anycast address must have the same time."""
        self._page, self._clock = page, clock
        self._raw = b""
        self._period = -1
        self._secrets: tuple[bytes, ...] = ()

    def reply(self, received: bytes, address: str) -> bytes:
        """Returns the cookie for a reply: the client cookie, followed by a server cookie.

        `received` is the cookie in the query, of 8 or of 16 to 40 octets. `address` is the address of the client.
        """
        now = int(self._clock())
        verified = self._verify(received, address, now)
        if verified is not None and verified.age < RENEW_AFTER and verified.is_current:
            return received
        head = received[:CLIENT_SIZE] + _VERSION + (now & 0xFFFFFFFF).to_bytes(4, "big")
        return head + siphash24(self._current(now)[0], head + _address(address))

    def is_valid(self, received: bytes, address: str) -> bool:
        """Returns True if the cookie of a query contains a valid server cookie for this client.

        `received` and `address` are as for `reply`.
        """
        return self._verify(received, address, int(self._clock())) is not None

    def _verify(self, received: bytes, address: str, now: int) -> _Verified | None:
        """Returns the valid server cookie in a query's cookie, or None if there is none."""
        if len(received) != CLIENT_SIZE + SERVER_SIZE or received[CLIENT_SIZE] != _VERSION[0]:
            return None
        made = int.from_bytes(received[12:16], "big")
        age = (now - made + 0x80000000 & 0xFFFFFFFF) - 0x80000000  # serial number arithmetic (RFC 1982)
        if not -MAX_AHEAD <= age <= MAX_AGE:
            return None
        content, given = received[:16] + _address(address), received[16:]
        for number, secret in enumerate(self._current(now)):
            if compare_digest(siphash24(secret, content), given):
                return _Verified(age, number == 0)
        return None

    def _current(self, now: int) -> tuple[bytes, ...]:
        """Returns the valid secrets. The first one is for new cookies."""
        raw, period = read_secrets(self._page), now // ROTATION
        if raw != self._raw or period != self._period:
            self._raw, self._period = raw, period
            base, given = raw[:BASE_SIZE], raw[BASE_SIZE:]
            self._secrets = tuple(given[at : at + SECRET_SIZE] for at in range(0, len(given), SECRET_SIZE)) or tuple(
                hashlib.blake2b(number.to_bytes(8, "big"), key=base, digest_size=SECRET_SIZE).digest()
                for number in (period, period - 1)
            )
        return self._secrets


def _address(text: str) -> bytes:
    text = text.partition("%")[0]
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
