"""The framing of DNS messages on a byte stream, over TCP or TLS.

Each message comes after two octets with its length (RFC 1035 §4.2.2, RFC 7766 §8). The content of a message is not
checked.
"""

from __future__ import annotations


def framed(message: bytes) -> bytes:
    """Returns the message after two octets with its length (RFC 7766 §8)."""
    return len(message).to_bytes(2, "big") + message


def take_message(received: bytearray) -> bytes | None:
    """Removes the first message from `received` and returns it. Returns None if the message is incomplete."""
    if len(received) < 2:
        return None
    end = 2 + int.from_bytes(received[:2], "big")
    if len(received) < end:
        return None
    message = bytes(received[2:end])
    del received[:end]
    return message


def has_message(received: bytearray) -> bool:
    """Returns True if `received` has a complete message."""
    return len(received) >= 2 and len(received) >= 2 + int.from_bytes(received[:2], "big")
