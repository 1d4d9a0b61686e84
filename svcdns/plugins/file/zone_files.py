"""The part of the plugin `file` that runs in the control process: which zone files are read, and when.

A file that is wrong or hangs does not prevent a start or a reload: queries in its zone get SERVFAIL, and the file is
read again later. The other rules are those of `svcdns.zones.zone_files`. See docs/behaviour/plugins.md#file.
"""

from __future__ import annotations

from collections.abc import Mapping

from svcdns.log_line import LogLine
from svcdns.plugins.file.options import RELOAD, Options, ZoneFile
from svcdns.telemetry.logging import plugin_logger
from svcdns.wire.zone_words import ZoneFileError
from svcdns.zones.content import data_key, error_key
from svcdns.zones.file_reads import BlockedFileError, FileReads, MissingError
from svcdns.zones.zone_files import BLOCKED_RETRY, FIRST_RETRY, ZoneSource, loaded, refreshed, retry


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Reads the zone files. Returns the content of each zone under its `data_key`, and error texts under `error_key`.

    `known` is the result of the previous read.
    """
    out: dict[str, bytes] = {}
    reads = _reads(options)
    for file in options.files:
        for zone in file.zones:
            out |= loaded(_source(file, zone), known, reads)
    return out


def period(options: Options) -> float:
    """Returns the seconds between two reads of the zone files."""
    shortest = min((file.reload or RELOAD for file in options.files), default=0.0)
    return retry((file.path for file in options.files), shortest)


def _reads(options: Options) -> FileReads:
    return FileReads(file.path for file in options.files if file.zones)


def refresh(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Reads the zone files again. Returns the same mapping as `gather`.

    A zone is replaced if its serial has changed. With `reload_by_mtime`, it is replaced if the file's modification time
    has changed. With `reload 0`, only files of zones without content are read.
    """
    out = dict(known)
    reads = _reads(options)
    for file in options.files:
        for zone in file.zones:
            if file.reload or data_key(file.path, zone) not in known:
                out |= refreshed(_source(file, zone), known, reads)
    return out


def _source(file: ZoneFile, zone: str) -> ZoneSource:
    def complain(error: ZoneFileError, kept: bool) -> None:
        _complain(file, zone, error, kept=kept)

    keys = data_key(file.path, zone), error_key(file.path, zone)
    return ZoneSource("file", file.path, zone, *keys, complain, file.reload_by_mtime, file.has_history)


def _complain(file: ZoneFile, zone: str, error: ZoneFileError, *, kept: bool) -> None:
    log = plugin_logger("file")
    again = file.reload or RELOAD
    if isinstance(error, BlockedFileError):
        again = min(again, BLOCKED_RETRY)
    elif isinstance(error, MissingError):
        again = min(again, FIRST_RETRY)
    if kept:
        log.error(LogLine("the zone is served as it was read before", zone=zone, error=error))
    else:
        where = f"{file.position.file}:{file.position.line}"
        write = log.warning if isinstance(error, MissingError) else log.error  # as in CoreDNS
        write(LogLine("the zone is SERVFAIL", position=where, zone=zone, retry_seconds=again, error=error))
