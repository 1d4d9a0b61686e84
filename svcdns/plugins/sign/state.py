"""The state of a signed file, which control sends to the workers for the metrics."""

from __future__ import annotations

import msgspec

from svcdns.plugins.sign.options import ZoneToSign


class State(msgspec.Struct, frozen=True, array_like=True):
    """`failed` is True if the last attempt to sign the zone failed.

    `expiration` is the Unix time at which the first signature of the SOA record expires; 0 without a signature.
    """

    failed: bool
    expiration: int

    def data(self, zone: ZoneToSign) -> dict[str, bytes]:
        """Returns the data that control publishes for a zone."""
        return {key(zone): msgspec.msgpack.encode(self)}


def key(zone: ZoneToSign) -> str:
    """Returns the key of a zone's state in the plugin's data."""
    return f"{zone.signed_file} {zone.zone}"


def decode(payload: bytes) -> State:
    """Decodes a state."""
    return msgspec.msgpack.decode(payload, type=State)
