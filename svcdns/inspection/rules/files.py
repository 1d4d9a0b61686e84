"""Reads the files that plugins name, as a start does, and reports what the start would log about them.

Upstreams that are host names are not looked up.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from svcdns.control.plugin_data import PluginFiles, plugin_files
from svcdns.corefile.blocks import Position
from svcdns.corefile.errors import CorefileError
from svcdns.errors import SvcdnsError
from svcdns.inspection.problem import Problem, error, from_log_line, warning
from svcdns.inspection.reading import Reading
from svcdns.inspection.rules.signatures import zones_to_sign
from svcdns.log_line import LogLine, shown
from svcdns.plugins.file.options import Options as FileOptions
from svcdns.plugins.forward.options import Options as ForwardOptions
from svcdns.plugins.forward.upstream_addresses import NamedUpstream
from svcdns.tls import material
from svcdns.tls.errors import TlsError

SOON: Final = 30 * 86400.0
"""Seconds before the expiry of a certificate from which on it is reported."""
_NOT_LOADED: Final = "the zone is SERVFAIL"
_EXPIRED: Final = "the certificate has expired"
"""The text of the log line of *file* about a zone file that cannot be used."""


class _Collector(logging.Handler):
    """A log handler that keeps the lines of level WARNING and above."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the line of a record."""
        line = record.msg if isinstance(record.msg, LogLine) else record.getMessage()
        self.lines.append((record.levelno, line))


def logged(call: Callable[[], object]) -> list[tuple[int, str]]:
    """Calls `call`, and returns the level and text of each line that it logs, from WARNING on.

    The lines are not printed.
    """
    collector = _Collector()
    loggers = [logging.getLogger("svcdns")]
    loggers += [
        one for name, one in logging.Logger.manager.loggerDict.items()
        if name.startswith("svcdns.") and isinstance(one, logging.Logger) and not one.propagate
    ]  # fmt: skip
    before = [(one, one.propagate) for one in loggers]
    for one in loggers:
        one.addHandler(collector)
        one.propagate = False
    try:
        call()
    finally:
        for one, propagate in before:
            one.removeHandler(collector)
            one.propagate = propagate
    return collector.lines


def files_of_plugins(reading: Reading) -> Iterator[Problem]:
    """Finds files that are missing, cannot be read or have errors, and certificates that expire soon."""
    to_be_made = {zone.signed_file for zone in zones_to_sign(reading) if not Path(zone.signed_file).exists()}
    for files in plugin_files(reading.plans):
        for options, position in _parts(files):
            if isinstance(options, FileOptions) and options.files[0].path in to_be_made:
                continue
            yield from _read(files._replace(options=options), position)
    for plan in reading.plans:
        for settings in plan.settings.values():
            if settings.watch is not None:
                yield from _missing(
                    [settings.watch.kubeconfig, *(settings.watch.tls or ()), *settings.watch.manifests],
                    plan.block("kubernetes").directives[0].position,
                )


def _parts(files: PluginFiles) -> Iterator[tuple[Any, Position]]:
    """Yields the options of each single directive of a plugin, with the position of the directive."""
    if isinstance(files.options, FileOptions):
        for file in files.options.files:
            yield replace(files.options, files=(file,)), file.position
    elif isinstance(files.options, ForwardOptions):
        for rule in files.options.rules:
            known = [one for one in rule.upstreams if not isinstance(one, NamedUpstream) or _is_file(one)]
            if known:
                yield replace(files.options, rules=(replace(rule, upstreams=tuple(known), left_out=()),)), rule.position
    else:
        yield files.options, files.position


def _is_file(upstream: NamedUpstream) -> bool:
    return not upstream.host or Path(upstream.path).exists()


def _read(files: PluginFiles, position: Position) -> Iterator[Problem]:
    try:
        lines = logged(lambda: files.gather({}))
    except CorefileError as failure:
        yield error(failure.position, "file", failure.message.removeprefix(f"plugin/{files.plugin}: "))
        return
    except SvcdnsError as failure:
        yield error(position, "file", str(failure))
        return
    for level, line in lines:
        if isinstance(line, LogLine) and line.text == _EXPIRED:
            continue  # `_expiry` reports it
        found = from_log_line(line, "file", position)
        if isinstance(line, LogLine) and line.text == _NOT_LOADED:
            found = replace(found, position=position, message=_not_loaded(line))
        yield error(found.position, "file", found.message, starts=True) if level >= logging.ERROR else found
    yield from _expiry(files, position)


def _not_loaded(line: LogLine) -> str:
    """Returns what is wrong with a zone file, and what the server does then."""
    cause, zone, seconds = (
        str(line.fields["error"]).removesuffix("."),
        line.fields["zone"],
        shown(line.fields["retry_seconds"]),
    )
    then = f"the server starts, answers queries in {zone} with SERVFAIL, and reads the file again after {seconds} s"
    return f"{cause}; {then}"


def _expiry(files: PluginFiles, position: Position) -> Iterator[Problem]:
    path = getattr(files.options, "certificate", "")
    if not isinstance(path, str) or not path:
        return
    try:
        expires = material.expiry(Path(path).read_bytes())
    except (OSError, TlsError):
        return
    left = expires - time.time()
    if left < 0:
        text = f"the certificate in {path} expired on {_day(expires)}"
        yield error(position, "certificate-expired", text, starts=True)
    elif left < SOON:
        yield warning(position, "certificate-expires", f"the certificate in {path} expires on {_day(expires)}")


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _missing(paths: Sequence[str], position: Position) -> Iterator[Problem]:
    for path in paths:
        if not path or path == "-":
            continue
        try:
            with open(path, "rb") if not Path(path).is_dir() else open("/dev/null", "rb"):
                pass
        except OSError as failure:
            yield error(position, "file", f"{path} cannot be read: {(failure.strerror or str(failure)).lower()}")
