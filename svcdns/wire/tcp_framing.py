"""The framing of DNS messages on a byte stream, TCP or TLS: each has two octets of length before it (RFC 1035 §4.2.2,
RFC 7766 §8).

Nothing here reads or writes; a message of any content passes.
"""

from __future__ import annotations


def framed(message: bytes) -> bytes:
    """The message with its length before it, so that both leave in one write (RFC 7766 §8)."""
    return len(message).to_bytes(2, "big") + message


def take_message(received: bytearray) -> bytes | None:
    """Removes the first message from the octets received, and returns it; None while it is not complete."""
    if len(received) < 2:
        return None
    end = 2 + int.from_bytes(received[:2], "big")
    if len(received) < end:
        return None
    message = bytes(received[2:end])
    del received[:end]
    return message


def has_message(received: bytearray) -> bool:
    """Whether the first message of the octets received is complete."""
    return len(received) >= 2 and len(received) >= 2 + int.from_bytes(received[:2], "big")
