"""Control's part of the plugin `geoip`: reads the database, and checks that it is one.

A start fails if the database cannot be used, as in CoreDNS. Later, the database that was read last stays in use.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from svcdns.corefile.blocks import Position
from svcdns.corefile.errors import CorefileError
from svcdns.plugins.geoip.database import Database, DatabaseError
from svcdns.plugins.geoip.options import Options

PERIOD: Final = 60.0
"""The seconds between two looks at the file."""
MAX_SIZE: Final = 255 << 20
"""The most octets of a database: it is sent to the workers in one frame."""

_STAMP: Final = struct.Struct(">QQQ")
"""Size, modification time and inode of the file. They are appended to the content, where a reader ignores them."""


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Returns the content of the database under its path. Raises CorefileError if it cannot be used."""
    position = options.position or Position("Corefile", 1, 1)
    try:
        status = Path(options.path).stat()
        stamp = _STAMP.pack(status.st_size, status.st_mtime_ns, status.st_ino)
        if known.get(options.path, b"").endswith(stamp):
            return {options.path: known[options.path]}
        data = _checked(options.path, status.st_size)
    except (OSError, ValueError, DatabaseError) as error:  # ValueError: a path with a zero octet
        reason = getattr(error, "strerror", None) or error
        text = f"plugin/geoip: failed to open database file: {options.path}: {reason}"
        raise CorefileError(position, text) from error
    return {options.path: data + stamp}


def period(options: Options) -> float:  # noqa: ARG001 - the same for every database
    """Returns the seconds between two looks at the file."""
    return PERIOD


def refresh(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Reads the database again if the file has changed. Raises CorefileError if it cannot be used."""
    return gather(options, known)


def _checked(path: str, size: int) -> bytes:
    if size > MAX_SIZE:
        raise DatabaseError(f"the file has more than {MAX_SIZE} octets")
    data = Path(path).read_bytes()
    database = Database(data)
    if not (database.has_city or database.has_asn):
        raise DatabaseError(f'geoip2: reader does not support the "{database.kind}" database type')
    return data
