"""Reads zone files in the control process, and keeps the last usable content of each zone.

Rules:

1. If a file can no longer be used, the zone keeps its content.
2. A file that is being written does not replace a zone. A zone without content takes such a file as it is, and the file
   is read again later.
3. An error is reported only if it differs from the file's previous error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from svcdns.log_line import LogLine
from svcdns.telemetry.logging import plugin_logger
from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.zone_words import ZoneFileError
from svcdns.zones.content import decode
from svcdns.zones.file_reads import Content, FileReads, MissingError, UnsettledFileError, is_blocked
from svcdns.zones.history import encode_version

if TYPE_CHECKING:
    from svcdns.wire.record import Record

SHOWN_WARNINGS: Final = 10
"""The most warnings about one file that are logged. Further warnings are only counted."""


FIRST_RETRY: Final = 1.0
"""The first pause in seconds before missing files are read again. Each further pause is twice as long."""
BLOCKED_RETRY: Final = 5.0
"""Seconds after which the files are read again, while a file hangs."""
UNSETTLED_RETRY: Final = 1.0
"""Seconds after which the files are read again, while a file is being written."""
_BLOCK: Final = 4096
"""Programs that write a file piece by piece use pieces whose size is a multiple of this number of octets."""

_missing: dict[str, float] = {}
"""By file that does not exist: the seconds until the files are read again."""
_unsettled: set[str] = set()
"""The files that were being written when they were to replace a zone."""


class _Part(NamedTuple):
    """The size and the SHA-256 of a file's content that may be incomplete.

    `is_open` means that a program had the file open for writing. Otherwise the file was written right before.
    """

    size: int
    digest: bytes
    is_open: bool


_cut_off: dict[str, _Part] = {}
"""By the key of the zone's content: what was read from a file that may have been incomplete."""


@dataclass(frozen=True, slots=True)
class ZoneSource:
    """A zone and its file.

    - `zone` is the name as text.
    - `key` and `error_key` are the keys of the zone's content and of the error text in the plugin's data.
    - `complain(error, kept)` logs an error. `kept` is True if the zone has earlier content.
    - The zone is replaced if its serial has changed. If `by_mtime` is true, it is replaced if the file's modification
      time has changed.
    - With `has_history`, the zone keeps the differences between its versions, for the plugin *transfer*.
    """

    plugin: str
    path: str
    zone: str
    key: str
    error_key: str
    complain: Callable[[ZoneFileError, bool], None]
    by_mtime: bool = False
    has_history: bool = False


def retry(paths: Iterable[str], period: float) -> float:
    """Returns the seconds until the files are read again: `period`, or less if a file is missing, hangs, or is being
    written.
    """
    paths = tuple(paths)
    period = min(period, *(_missing.get(path, period) for path in paths), period)
    if any(path in _unsettled for path in paths):
        return min(period, UNSETTLED_RETRY)
    return min(period, BLOCKED_RETRY) if is_blocked(paths) else period


def loaded(source: ZoneSource, known: Mapping[str, bytes], reads: FileReads) -> dict[str, bytes]:
    """Reads a zone file. Returns the zone's content under its `key`, and the error text under its `error_key`.

    If the file cannot be used, the content is the previous one from `known`. Otherwise the error text is empty.
    """
    key, error_at = source.key, source.error_key
    warnings: list[str] = []
    _unsettled.discard(source.path)
    earlier = _missing.pop(source.path, FIRST_RETRY / 2)
    try:
        read = (reads.read_settled if known.get(key) else reads.read)(source.path)
        previous = known.get(key, b"") if source.has_history else b""
        content = load(read, source.path, source.zone, warnings, reads, previous)
        _note_cut_off(key, read)
        if read.is_open and read.settles_in():
            _unsettled.add(source.path)
    except UnsettledFileError:
        _unsettled.add(source.path)
        return {key: known[key], error_at: known.get(error_at, b"")}
    except ZoneFileError as error:
        if isinstance(error, MissingError):
            _missing[source.path] = 2 * earlier
        if known.get(error_at) != str(error).encode():
            source.complain(error, bool(known.get(key)))
        return {error_at: str(error).encode(), **({key: known[key]} if known.get(key) else {})}
    log = plugin_logger(source.plugin)
    for text in warnings[:SHOWN_WARNINGS]:
        log.warning(LogLine("a warning about the zone file", path=source.path, warning=text))
    if len(warnings) > SHOWN_WARNINGS:
        more = len(warnings) - SHOWN_WARNINGS
        log.warning(LogLine("more warnings about the zone file", path=source.path, warnings=more))
    return {key: content, error_at: b""}


def _note_cut_off(key: str, content: Content) -> None:
    data = content.data
    if content.settles_in() and (content.is_open or len(data) % _BLOCK == 0 or not data.endswith(b"\n")):
        _cut_off[key] = _Part(len(data), sha256(data).digest(), content.is_open)
    else:
        _cut_off.pop(key, None)


def _has_rest(source: ZoneSource, content: Content) -> bool:
    """Returns True if the zone was read from an incomplete file, and `content` is more than the content of that file.

    A program that had the file open can have changed all of it. Otherwise the content must begin with the earlier one.
    """
    part, data = _cut_off.get(source.key), content.data
    if part is None:
        return False
    is_same = sha256(data[: part.size]).digest() == part.digest
    if part.is_open:
        has_changed = not is_same or part.size != len(data)
        if not has_changed and not content.settles_in():
            _cut_off.pop(source.key)
            _unsettled.discard(source.path)
        return has_changed
    return is_same and part.size < len(data)


def refreshed(source: ZoneSource, known: Mapping[str, bytes], reads: FileReads) -> dict[str, bytes]:
    """Reads a zone file again. Returns the same mapping as `loaded`.

    If the zone is unchanged, the mapping may be incomplete or empty.
    """
    payload = known.get(source.key)
    if not payload:
        return loaded(source, known, reads)
    before = decode(payload)
    try:
        content = reads.read(source.path)
        if source.by_mtime:
            unchanged = content.modified == before.modified
        else:
            unchanged = _serial(content.data, source.path, source.zone, reads) == before.serial
            unchanged = unchanged and not _has_rest(source, content)
    except ZoneFileError:
        return loaded(source, known, reads)
    if not unchanged:
        found = loaded(source, known, reads)
        if not found[source.error_key] and source.path not in _unsettled:
            plugin_logger("file").info(  # also for other plugins, as in CoreDNS
                'Successfully reloaded zone "%s" in "%s" with %d SOA serial',
                source.zone,
                source.path,
                decode(found[source.key]).serial,
            )
        return found
    if known.get(source.error_key):  # the file was wrong, and may be correct again with the same serial or time
        found = loaded(source, known, reads)
        return {source.error_key: found[source.error_key]}
    return {}


def _serial(data: bytes, path: str, zone: str, reads: FileReads) -> int | None:
    """Returns the serial of the first SOA record in the file, or None without a SOA record. Raises ZoneFileError."""
    from svcdns.wire.zone_text import first_soa  # the parser is loaded where a zone file is read, and nowhere else

    found = first_soa(data, names.from_text(zone), path, lambda included: reads.read(str(included)).data)
    return None if found is None else int.from_bytes(found.rdata[-20:-16], "big")


def load(content: Content, path: str, zone: str, warnings: list[str], reads: FileReads, previous: bytes = b"") -> bytes:
    """Returns the encoded zone from the content of its file. `path` is the file's name. Raises ZoneFileError.

    `previous` is the encoded previous version, for a zone with a history. Adds a text to `warnings` for each record
    that is left out or corrected.
    """
    from svcdns.wire.zone_text import read

    origin = names.from_text(zone)
    apex = origin.lower()
    records = read(content.data, origin, path, warnings.append, lambda included: reads.read(str(included)).data)
    soa = _soa(records, apex)
    if soa is None:
        raise ZoneFileError(f"{path}: no SOA record for {zone}")
    own = [record for record in records if names.is_within(record.owner.lower(), apex)]
    return encode_version(previous, soa, own, content.modified)


def _soa(records: list[Record], apex: bytes) -> Record | None:
    """Returns the zone's SOA record, or None if `records` has no SOA record.

    As in CoreDNS, returns the last SOA record at the zone's name, or else the last SOA record in `records`.
    """
    found = [record for record in records if record.rtype == Type.SOA]
    own = [record for record in found if record.owner.lower() == apex]
    candidates = own or found
    return candidates[-1] if candidates else None
