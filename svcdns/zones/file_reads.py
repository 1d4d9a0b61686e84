"""Reads zone files in threads, so that a file system that hangs delays a start or a reload only by seconds.

Rules:

1. `FileReads.read` waits at most READ_TIMEOUT seconds for a file. After the first file that hangs, all other files are
   read at the same time.
2. A thread that hangs is left running. If it ends later, the next read of the file uses its result.
3. A file that was written in the last second, or that a program has open for writing, may be incomplete. `read_settled`
   waits at most a second for its end.
4. A file of more than MAX_SIZE octets is an error.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Final, NamedTuple

from svcdns.wire.zone_words import ZoneFileError

READ_TIMEOUT: Final = 2.0
"""Seconds to wait for a file."""
SETTLE: Final = 1.0
"""Seconds for which a file must not have been written before it replaces a zone."""
OPEN_LIMIT: Final = 60.0
"""Seconds after the last write to a file after which it is complete, even if a program has it open for writing."""
MAX_SIZE: Final = 128 << 20
"""The most octets of a zone file."""
_CHUNK: Final = 1 << 20

_Identity = tuple[int, int]
"""The device and the inode of a file."""


class MissingError(ZoneFileError):
    """Raised if the zone file does not exist."""


class BlockedFileError(ZoneFileError):
    """Raised if a file is not read in time."""


class UnsettledFileError(ZoneFileError):
    """Raised if a file is being written."""


class Content(NamedTuple):
    """The octets of a file, and its modification time in nanoseconds.

    `is_open` is True if a program had the file open for writing, as far as this process can know.
    """

    data: bytes
    modified: int
    is_open: bool = False

    def settles_in(self) -> float:
        """Returns the seconds until the file is regarded as complete; 0 if it is complete now.

        A file is complete SETTLE seconds after its last modification, or OPEN_LIMIT seconds after it if a program has
        the file open for writing. A modification time in the future is ignored.
        """
        age = time.time() - self.modified / 1e9
        limit = OPEN_LIMIT if self.is_open else SETTLE
        return limit - age if 0.0 <= age < limit else 0.0


class _Attempt:
    """A thread that reads one file. `identity` is the device and inode of the file, or None until they are known."""

    def __init__(self, path: str, others: Iterable[_Attempt]) -> None:
        self.identity: _Identity | None = None
        self.outcome: Future[Content] = Future()
        others = tuple(others)

        def work() -> None:
            try:
                self.outcome.set_result(self._content(path, others))
            except BaseException as error:  # noqa: BLE001  raised again by the thread that waits
                self.outcome.set_exception(error)

        threading.Thread(target=work, name=f"zone file {path}", daemon=True).start()

    def _content(self, path: str, others: tuple[_Attempt, ...]) -> Content:
        status = Path(path).stat()
        identity = status.st_dev, status.st_ino
        if any(other.identity == identity and not other.outcome.done() for other in others):
            raise BlockedFileError(_blocked(path))
        self.identity = identity
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_SIZE:
                is_open = _is_open_for_writing(file.fileno())  # first: a program may close the file at any time
                return Content(file.read(), status.st_mtime_ns, is_open)
            parts: list[bytes] = []
            while status.st_size <= MAX_SIZE and len(parts) * _CHUNK <= MAX_SIZE and (part := file.read(_CHUNK)):
                parts.append(part)
            if status.st_size > MAX_SIZE or len(parts) * _CHUNK > MAX_SIZE:
                raise ZoneFileError(f"open {path}: more than {MAX_SIZE} octets")
            return Content(b"".join(parts), status.st_mtime_ns)


def _is_open_for_writing(descriptor: int) -> bool:
    """Returns True if a program has the file open for writing.

    The kernel refuses a read lease of such a file (fcntl(2), F_SETLEASE). This function returns False if this process
    may not have leases of the file: it needs CAP_LEASE, or must own the file.
    """
    if sys.platform != "linux":
        return False
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)  # if the lease is broken; SIGIO would end the process
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False


_lock = threading.Lock()
_attempts: dict[str, list[_Attempt]] = {}
"""By path: the attempts that were not over when the caller stopped waiting."""


class FileReads:
    """Reads zone files for one start or one reload. `paths` has all files that may be read."""

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._remaining = dict.fromkeys(paths)
        self._early: dict[str, _Attempt] = {}
        self._deadline: float | None = None

    def read(self, path: str) -> Content:
        """Returns the content of a file. Raises ZoneFileError."""
        self._remaining.pop(path, None)
        attempt = self._early.pop(path, None) or _attempt(path)
        timeout = READ_TIMEOUT if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        wait([attempt.outcome], timeout)
        if not attempt.outcome.done():
            _keep(path, attempt)
            if self._deadline is None:
                self._deadline = time.monotonic() + READ_TIMEOUT
                self._early = {other: _attempt(other) for other in self._remaining}
            raise BlockedFileError(_blocked(path))
        try:
            content = attempt.outcome.result()
        except FileNotFoundError as error:
            raise MissingError(f"open {path}: {error.strerror}") from error
        except (OSError, ValueError) as error:  # ValueError: a path with a zero octet
            raise ZoneFileError(f"open {path}: {getattr(error, 'strerror', None) or error}") from error
        with _lock:
            _attempts.pop(path, None)
        return content

    def read_settled(self, path: str) -> Content:
        """Returns the content of a complete file. Raises ZoneFileError.

        If the file is being written, waits at most SETTLE seconds.
        """
        content = self.read(path)
        remaining = content.settles_in()
        if remaining:
            time.sleep(min(remaining, SETTLE))
            content = self.read(path)
        if content.settles_in():
            raise UnsettledFileError(f"{path} is being written")
        return content


def is_blocked(paths: Iterable[str]) -> bool:
    """Returns True if a read of one of these files hung, and no later read of this file has succeeded."""
    return any(path in _attempts for path in paths)


def _blocked(path: str) -> str:
    return f"open {path}: not read within {READ_TIMEOUT:g} s"


def _attempt(path: str) -> _Attempt:
    """Returns a running or finished attempt to read the file, or starts a new attempt.

    A finished attempt is returned only once.
    """
    with _lock:
        earlier = _attempts.get(path, [])
        for attempt in earlier:
            if attempt.outcome.done():
                earlier.remove(attempt)
                if not earlier:
                    del _attempts[path]
                return attempt
        unknown = [attempt for attempt in earlier if attempt.identity is None]
        return unknown[0] if unknown else _Attempt(path, earlier)


def _keep(path: str, attempt: _Attempt) -> None:
    with _lock:
        kept = _attempts.setdefault(path, [])
        if attempt not in kept:
            kept.append(attempt)
