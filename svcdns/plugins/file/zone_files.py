"""Control's part of the plugin `file`: reads the zone files, and reports the files that cannot be used.

Rules (docs/behaviour/plugins.md#file):

1. A file that is wrong or hangs does not prevent a start or a reload. Queries in a zone without content get SERVFAIL,
   and the file is read again later.
2. If a file can no longer be used, the zone stays as it was.
3. A file that is being written does not replace a zone. At a start, such a file is used as it is, and read again if
   more is written to it.
4. An error is logged only if it differs from the file's previous error.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from svcdns.plugins.file.content import data_key, decode, encode, error_key
from svcdns.plugins.file.file_reads import (
    BlockedFileError,
    Content,
    FileReads,
    MissingError,
    UnsettledFileError,
    is_blocked,
)
from svcdns.plugins.file.options import RELOAD, Options, ZoneFile
from svcdns.telemetry.logging import plugin_logger
from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.zone_words import ZoneFileError

if TYPE_CHECKING:
    from svcdns.wire.record import Record

SHOWN_WARNINGS: Final = 10
"""The most warnings about one file that are logged. Further warnings are only counted."""


BLOCKED_RETRY: Final = 5.0
"""Seconds after which the files are read again, while a file hangs."""
UNSETTLED_RETRY: Final = 1.0
"""Seconds after which the files are read again, while a file is being written."""
_BLOCK: Final = 4096
"""Programs that write a file piece by piece use pieces whose size is a multiple of this number of octets."""

_unsettled: set[str] = set()
"""The files that were being written when they were to replace a zone."""
_cut_off: dict[str, tuple[int, bytes]] = {}
"""By `data_key`: size and SHA-256 of a file that was read right after it was written, and that may be incomplete."""


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Reads the zone files. Returns the content of each zone under its `data_key`, and error texts under `error_key`.

    `known` is the result of the previous read.
    """
    out: dict[str, bytes] = {}
    reads = _reads(options)
    for file in options.files:
        for zone in file.zones:
            out |= _loaded(file, zone, known, reads)
    return out


def period(options: Options) -> float:
    """Returns the seconds between two reads of the zone files."""
    shortest = min((file.reload or RELOAD for file in options.files), default=0.0)
    if any(file.path in _unsettled for file in options.files):
        return min(shortest, UNSETTLED_RETRY)
    return min(shortest, BLOCKED_RETRY) if is_blocked(file.path for file in options.files) else shortest


def _reads(options: Options) -> FileReads:
    return FileReads(file.path for file in options.files if file.zones)


def refresh(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Reads the zone files again. Returns what `gather` returns.

    A zone is replaced if its serial has changed. With the option `reload_by_mtime`, it is replaced if the file's
    modification time has changed. With `reload 0`, only files of zones without content are read.
    """
    out = dict(known)
    reads = _reads(options)
    for file in options.files:
        for zone in file.zones:
            if file.reload or data_key(file.path, zone) not in known:
                out |= _refreshed(file, zone, known, reads)
    return out


def _loaded(file: ZoneFile, zone: str, known: Mapping[str, bytes], reads: FileReads) -> dict[str, bytes]:
    """Reads a zone file. Returns the zone's content under its `data_key`, and the error text under its `error_key`.

    The error text is empty if the file could be read. Otherwise the content is the earlier one in `known`.
    """
    key, error_at = data_key(file.path, zone), error_key(file.path, zone)
    warnings: list[str] = []
    _unsettled.discard(file.path)
    try:
        read = (reads.read_settled if key in known else reads.read)(file.path)
        _note_cut_off(key, read)
        content = load(read, file.path, zone, warnings, reads)
    except UnsettledFileError:
        _unsettled.add(file.path)
        return {key: known[key], error_at: known.get(error_at, b"")}
    except ZoneFileError as error:
        if known.get(error_at) != str(error).encode():
            _complain(file, zone, error, kept=key in known)
        return {error_at: str(error).encode(), **({key: known[key]} if key in known else {})}
    log = plugin_logger("file")
    for text in warnings[:SHOWN_WARNINGS]:
        log.warning("%s", text)
    if len(warnings) > SHOWN_WARNINGS:
        log.warning("%s: %d more warnings", file.path, len(warnings) - SHOWN_WARNINGS)
    return {key: content, error_at: b""}


def _note_cut_off(key: str, content: Content) -> None:
    data = content.data
    if content.settles_in() and (len(data) % _BLOCK == 0 or not data.endswith(b"\n")):
        _cut_off[key] = len(data), sha256(data).digest()
    else:
        _cut_off.pop(key, None)


def _has_rest(key: str, data: bytes) -> bool:
    """Returns True if the zone was read from an incomplete file, and `data` continues the content of that file."""
    size, digest = _cut_off.get(key, (len(data), b""))
    return size < len(data) and sha256(data[:size]).digest() == digest


def _complain(file: ZoneFile, zone: str, error: ZoneFileError, *, kept: bool) -> None:
    log = plugin_logger("file")
    again = file.reload or RELOAD
    if isinstance(error, BlockedFileError):
        again = min(again, BLOCKED_RETRY)
    if kept:
        log.error("%s; zone %s is served as it was read before", error, zone)
    elif isinstance(error, MissingError):
        log.warning("%s; zone %s is SERVFAIL; trying again in %gs", error, zone, again)
    else:
        where = f"{file.position.file}:{file.position.line}"
        log.error("%s: %s; zone %s is SERVFAIL; trying again in %gs", where, error, zone, again)


def _refreshed(file: ZoneFile, zone: str, known: Mapping[str, bytes], reads: FileReads) -> dict[str, bytes]:
    payload = known.get(data_key(file.path, zone))
    error_at = error_key(file.path, zone)
    if payload is None:
        return _loaded(file, zone, known, reads)
    before = decode(payload)
    try:
        content = reads.read(file.path)
        if file.reload_by_mtime:
            unchanged = content.modified == before.modified
        else:
            unchanged = _serial(content.data, file.path, zone, reads) == before.serial
            unchanged = unchanged and not _has_rest(data_key(file.path, zone), content.data)
    except ZoneFileError:
        return _loaded(file, zone, known, reads)
    if not unchanged:
        found = _loaded(file, zone, known, reads)
        if not found[error_at] and file.path not in _unsettled:
            serial = decode(found[data_key(file.path, zone)]).serial
            plugin_logger("file").info(
                "Successfully reloaded zone %s in %s with %d SOA serial", zone, file.path, serial
            )
        return found
    if known.get(error_at):  # the file was wrong, and may be correct again with the same serial or time
        found = _loaded(file, zone, known, reads)
        return {error_at: found[error_at]}
    return {}


def _serial(data: bytes, path: str, zone: str, reads: FileReads) -> int | None:
    """Returns the serial of the first SOA record in the file, or None without a SOA record. Raises ZoneFileError."""
    from svcdns.wire.zone_text import first_soa  # the parser is loaded where a zone file is read, and nowhere else

    found = first_soa(data, names.from_text(zone), path, lambda included: reads.read(str(included)).data)
    return None if found is None else int.from_bytes(found.rdata[-20:-16], "big")


def load(content: Content, path: str, zone: str, warnings: list[str], reads: FileReads) -> bytes:
    """Returns the encoded zone from the content of its file. `path` is the file's name. Raises ZoneFileError.

    Adds a text to `warnings` for each record that is left out or corrected.
    """
    from svcdns.wire.zone_text import read

    origin = names.from_text(zone)
    apex = origin.lower()
    records = read(content.data, origin, path, warnings.append, lambda included: reads.read(str(included)).data)
    soa = _soa(records, apex)
    if soa is None:
        raise ZoneFileError(f"{path}: no SOA record for {zone}")
    own = [record for record in records if names.is_within(record.owner.lower(), apex)]
    return encode(soa, own, content.modified)


def _soa(records: list[Record], apex: bytes) -> Record | None:
    """Returns the zone's SOA record, or None if `records` has no SOA record.

    As in CoreDNS, returns the last SOA record at the zone's name, or else the last SOA record in `records`.
    """
    found = [record for record in records if record.rtype == Type.SOA]
    own = [record for record in found if record.owner.lower() == apex]
    candidates = own or found
    return candidates[-1] if candidates else None
