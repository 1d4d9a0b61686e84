"""The list of the zones of a folder, in the form in which the control process sends it to the workers."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class ListedZone(msgspec.Struct, frozen=True, array_like=True):
    """A zone of a folder.

    `zone` is its name as text, and `path` is its file. If `is_loaded` is true, the zone has content. If `is_refused` is
    true, the file cannot be used now.
    """

    zone: str
    path: str
    is_loaded: bool
    is_refused: bool


_list = msgspec.msgpack.Decoder(list[ListedZone])


def encode(zones: Iterable[ListedZone]) -> bytes:
    """Encodes a list of zones."""
    return msgspec.msgpack.encode(list(zones))


def decode(payload: bytes) -> list[ListedZone]:
    """Decodes a list of zones that `encode` encoded."""
    return _list.decode(payload)


def content_key(directory: str, zone: str) -> str:
    """Returns the key of a zone's content.

    `directory` is the key of the list of zones. A removed zone has empty content.
    """
    return f"zone {directory} {zone}"


def error_key(directory: str, zone: str) -> str:
    """Returns the key of the error of a zone's file. The error is an empty text if the file can be used."""
    return f"error {directory} {zone}"
