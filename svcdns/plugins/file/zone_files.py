"""Control's part of the plugin `file`: reads the zone files, and reports the files that cannot be used.

Rules (docs/behaviour/plugins.md#file):

1. A wrong file does not prevent a start or a reload. Queries in a zone without content get SERVFAIL, and the file is
   read again later.
2. If a file can no longer be used, the zone stays as it was.
3. An error is logged only if it differs from the file's previous error.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from svcdns.plugins.file.content import data_key, decode, encode, error_key
from svcdns.plugins.file.options import RELOAD, Options, ZoneFile
from svcdns.telemetry.logging import plugin_logger
from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.zone_words import ZoneFileError

if TYPE_CHECKING:
    from svcdns.wire.record import Record

SHOWN_WARNINGS: Final = 10
"""The most warnings about one file that are logged. Further warnings are only counted."""


class MissingError(ZoneFileError):
    """Raised if the zone file does not exist."""


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Reads the zone files. Returns each zone's content by `data_key`, and the error in its file by `error_key`.

    `known` is the result of the previous read.
    """
    out: dict[str, bytes] = {}
    for file in options.files:
        for zone in file.zones:
            out |= _loaded(file, zone, known)
    return out


def period(options: Options) -> float:
    """Returns the seconds between two reads of the zone files."""
    return min((file.reload or RELOAD for file in options.files), default=0.0)


def refresh(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Reads the zone files again. Returns what `gather` returns.

    A zone is replaced if its serial has changed. With the option `reload_by_mtime`, it is replaced if the file's
    modification time has changed. With `reload 0`, only files of zones without content are read.
    """
    out = dict(known)
    for file in options.files:
        for zone in file.zones:
            if file.reload or data_key(file.path, zone) not in known:
                out |= _refreshed(file, zone, known)
    return out


def _loaded(file: ZoneFile, zone: str, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Returns a zone's content by `data_key`, and the error in its file by `error_key`, which may be empty.

    If the file cannot be used, the content is that in `known`.
    """
    key, error_at = data_key(file.path, zone), error_key(file.path, zone)
    warnings: list[str] = []
    try:
        content = load(file.path, zone, warnings)
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


def _complain(file: ZoneFile, zone: str, error: ZoneFileError, *, kept: bool) -> None:
    log = plugin_logger("file")
    if kept:
        log.error("%s; zone %s is served as it was read before", error, zone)
    elif isinstance(error, MissingError):
        log.warning("%s; zone %s is SERVFAIL; trying again in %gs", error, zone, file.reload or RELOAD)
    else:
        where = f"{file.position.file}:{file.position.line}"
        log.error("%s: %s; zone %s is SERVFAIL; trying again in %gs", where, error, zone, file.reload or RELOAD)


def _refreshed(file: ZoneFile, zone: str, known: Mapping[str, bytes]) -> dict[str, bytes]:
    payload = known.get(data_key(file.path, zone))
    error_at = error_key(file.path, zone)
    if payload is None:
        return _loaded(file, zone, known)
    before = decode(payload)
    try:
        if file.reload_by_mtime:
            unchanged = Path(file.path).stat().st_mtime_ns == before.modified
        else:
            unchanged = _serial(file.path, zone) == before.serial
    except (OSError, ZoneFileError):
        return _loaded(file, zone, known)
    if not unchanged:
        found = _loaded(file, zone, known)
        if not found[error_at]:
            serial = decode(found[data_key(file.path, zone)]).serial
            plugin_logger("file").info(
                "Successfully reloaded zone %s in %s with %d SOA serial", zone, file.path, serial
            )
        return found
    if known.get(error_at):  # the file was wrong, and may be correct again with the same serial or time
        found = _loaded(file, zone, known)
        return {error_at: found[error_at]}
    return {}


def _octets(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise MissingError(f"open {path}: {error.strerror}") from error
    except OSError as error:
        raise ZoneFileError(f"open {path}: {error.strerror or error}") from error


def _serial(path: str, zone: str) -> int | None:
    """Returns the serial of the first SOA record in the file, or None without a SOA record. Raises ZoneFileError."""
    from svcdns.wire.zone_text import first_soa  # the parser is loaded where a zone file is read, and nowhere else

    found = first_soa(_octets(path), names.from_text(zone), path)
    return None if found is None else int.from_bytes(found.rdata[-20:-16], "big")


def load(path: str, zone: str, warnings: list[str]) -> bytes:
    """Reads a zone file and returns the encoded zone. Raises ZoneFileError.

    Adds a text to `warnings` for each record that is left out or corrected.
    """
    from svcdns.wire.zone_text import read

    data = _octets(path)
    try:
        modified = Path(path).stat().st_mtime_ns
    except OSError as error:
        raise ZoneFileError(f"open {path}: {error.strerror or error}") from error
    origin = names.from_text(zone)
    apex = origin.lower()
    records = read(data, origin, path, warnings.append)
    soa = _soa(records, apex)
    if soa is None:
        raise ZoneFileError(f"{path}: no SOA record for {zone}")
    return encode(soa, [record for record in records if names.is_within(record.owner.lower(), apex)], modified)


def _soa(records: list[Record], apex: bytes) -> Record | None:
    """Returns the zone's SOA record, or None if `records` has no SOA record.

    As in CoreDNS, it is the last one at the zone's name. If there is none at this name, it is the last one of all.
    """
    found = [record for record in records if record.rtype == Type.SOA]
    own = [record for record in found if record.owner.lower() == apex]
    candidates = own or found
    return candidates[-1] if candidates else None
