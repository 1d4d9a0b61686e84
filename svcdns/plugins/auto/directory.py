"""The part of the plugin `auto` that runs in the control process: finds the zone files of a folder, and reads them.

Rules (docs/behaviour/plugins.md#auto):

1. A zone exists as long as its file. A file that is wrong adds no zone, and is read again at the next scan.
2. If a file can no longer be used, its zone keeps the previous content.
3. If the folder cannot be listed, all zones stay. A folder that does not exist has no zones.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Final

from svcdns.corefile.errors import CorefileError
from svcdns.log_line import LogLine
from svcdns.plugins.auto.options import Directory, Options
from svcdns.plugins.auto.zone_list import ListedZone, content_key, decode, encode, error_key
from svcdns.telemetry.logging import plugin_logger
from svcdns.wire import names
from svcdns.wire.errors import NameTextError
from svcdns.wire.zone_words import ZoneFileError
from svcdns.zones import file_reads
from svcdns.zones.file_reads import FileReads
from svcdns.zones.zone_files import BLOCKED_RETRY, ZoneSource, loaded, refreshed, retry

_MOUNTED: Final = ".."
"""The names of folders in a mounted ConfigMap begin with this. Their files are also reached by symbolic links."""

_listings: dict[str, Future[list[str]]] = {}
"""By folder: the listings that did not end in time."""
_refused: set[str] = set()
"""The folders whose latest listing failed, and was logged."""
_noted: set[tuple[str, str]] = set()
"""By folder: the file names about which a warning was logged, so that each is logged once."""
_paths: dict[str, tuple[str, ...]] = {}
"""By folder: the zone files that the latest scan found."""


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Reads the zone files of the folders. Returns the content of the zones, and the list of zones of each folder.

    `known` is the result of the previous read. Raises CorefileError if an existing folder cannot be listed.
    """
    out: dict[str, bytes] = {}
    for directory in options.directories:
        out |= _scanned(directory, known, anew=True)
    return out


def period(options: Options) -> float:
    """Returns the seconds between two scans of the folders."""
    periods = [one.reload for one in options.directories if one.reload]
    if any(one.path in _listings for one in options.directories):
        periods.append(BLOCKED_RETRY)
    if not periods:
        return 0.0
    return retry((path for one in options.directories for path in _paths.get(one.path, ())), min(periods))


def refresh(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Scans the folders again. Returns the same mapping as `gather`. A zone is replaced if its serial has changed."""
    out: dict[str, bytes] = {}
    for directory in options.directories:
        if directory.reload or directory.path in _listings:
            try:
                out |= _scanned(directory, known, anew=False)
            except CorefileError as error:
                _complain_once(directory, error.message)
    return out


def _scanned(directory: Directory, known: Mapping[str, bytes], *, anew: bool) -> dict[str, bytes]:
    """Scans one folder. If `anew` is true, reads all its files."""
    log = plugin_logger("auto")
    before = {one.zone: one for one in decode(known[directory.key])} if directory.key in known else {}
    listed = _listed(directory)
    if listed is None:
        kept = {key: known[key] for one in before for key in _keys(directory, one) if key in known}
        return {**kept, directory.key: known.get(directory.key, encode(()))}
    found = _zones(directory, listed)
    _paths[directory.path] = tuple(found.values())
    reads = FileReads(found.values())
    out: dict[str, bytes] = {}
    zones = []
    for zone, path in found.items():
        source = _source(directory, zone, path)
        read = loaded if anew or not known.get(source.key) else refreshed
        out |= {key: known[key] for key in _keys(directory, zone) if key in known} | read(source, known, reads)
        is_loaded = bool(out.get(source.key))
        if is_loaded and (anew or zone not in before or not before[zone].is_loaded):
            log.info("Inserting zone `%s' from: %s", zone, path)
        zones.append(ListedZone(zone, path, is_loaded, bool(out.get(source.error_key))))
    for zone, one in before.items():
        if zone not in found:
            if one.is_loaded:
                log.info("Deleting zone `%s'", zone)
            out |= dict.fromkeys(_keys(directory, zone), b"")
    return {**out, directory.key: encode(zones)}


def _keys(directory: Directory, zone: str) -> tuple[str, str]:
    return content_key(directory.key, zone), error_key(directory.key, zone)


def _source(directory: Directory, zone: str, path: str) -> ZoneSource:
    def complain(error: ZoneFileError, kept: bool) -> None:
        log = plugin_logger("auto")
        if kept:
            log.error(LogLine("the zone is served as it was read before", zone=zone, error=error))
        else:
            log.warning("Parse zone `%s': %s", zone, error)

    return ZoneSource("auto", path, zone, *_keys(directory, zone), complain, has_history=directory.has_history)


def _zones(directory: Directory, paths: list[str]) -> dict[str, str]:
    """Returns the zone file of each zone. If a zone has several files, the first one is used."""
    log = plugin_logger("auto")
    out: dict[str, str] = {}
    for path in paths:
        text = directory.origin(Path(path).name)
        if text is None:
            continue
        try:
            zone = names.to_text(names.from_text(text).lower())
        except NameTextError as error:
            if (directory.path, path) not in _noted:
                _noted.add((directory.path, path))
                log.warning("Parse zone `%s': %s: %s", text, path, error)
            continue
        first = out.setdefault(zone, path)
        if first != path and (directory.path, path) not in _noted:
            _noted.add((directory.path, path))
            log.warning('Multiple zone files match origin "%s": using "%s" instead of "%s"', zone, first, path)
    return out


def _listed(directory: Directory) -> list[str] | None:
    """Returns the paths of all files in a folder and its subfolders, in the order of their names.

    Returns None if the listing takes too long. Raises CorefileError if an existing folder cannot be listed.
    """
    if not directory.path:
        return []
    listing = _listings.pop(directory.path, None) or _start(directory.path)
    wait([listing], file_reads.READ_TIMEOUT)
    if not listing.done():
        _listings[directory.path] = listing
        _complain_once(directory, f"{directory.path}: not listed within {file_reads.READ_TIMEOUT:g} s")
        return None
    try:
        found = listing.result()
    except FileNotFoundError:
        if directory.path not in _refused:
            plugin_logger("auto").warning("Directory does not exist: %s", directory.path)
        _refused.add(directory.path)
        return []
    except (OSError, ValueError) as error:  # ValueError: a path with a zero octet
        reason = getattr(error, "strerror", None) or error
        text = f"plugin/auto: Unable to access root path '{directory.path}': {reason}"
        raise CorefileError(directory.position, text) from error
    _refused.discard(directory.path)
    return found


def _complain_once(directory: Directory, text: str) -> None:
    if directory.path not in _refused:
        plugin_logger("auto").error(LogLine("the zones of a folder stay as they were", error=text))
    _refused.add(directory.path)


def _start(path: str) -> Future[list[str]]:
    """Lists a folder in a thread, because a file system may hang."""
    outcome: Future[list[str]] = Future()

    def work() -> None:
        try:
            outcome.set_result(_walk(path))
        except BaseException as error:  # noqa: BLE001  raised again by the thread that waits
            outcome.set_exception(error)

    threading.Thread(target=work, name=f"zone files {path}", daemon=True).start()
    return outcome


def _walk(path: str) -> list[str]:
    """Returns the files below a folder, in the order in which CoreDNS visits them.

    Symbolic links to files are included.
    """
    out: list[str] = []
    with os.scandir(path) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if not entry.name.startswith(_MOUNTED):
                out += _subfolder(entry.path)
        elif not entry.is_dir():
            out.append(entry.path)
    return out


def _subfolder(path: str) -> list[str]:
    try:
        return _walk(path)
    except OSError as error:
        plugin_logger("auto").warning("error reading %s: %s", path, error.strerror)
        return []
