"""DNS over dedicated QUIC connections (RFC 9250): the error codes, and the application protocol's name."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

ALPN: Final = "doq"


class DoqError(IntEnum):
    """The error codes of DNS over QUIC (RFC 9250 §8.4)."""

    NO_ERROR = 0x0
    INTERNAL_ERROR = 0x1
    PROTOCOL_ERROR = 0x2
    REQUEST_CANCELLED = 0x3
    EXCESSIVE_LOAD = 0x4
    UNSPECIFIED_ERROR = 0x5
