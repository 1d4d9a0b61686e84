"""Reads the state of a cluster once, from manifests or from an API server, into an index."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from svcdns.cluster.changes import Change
from svcdns.cluster.index import Index
from svcdns.cluster.watch_options import WatchOptions
from svcdns.errors import SvcdnsError
from svcdns.log_line import LogLine
from svcdns.sources.change_source import ChangeSource

LIMIT: Final = 30.0
"""Seconds within which the first lists have to be complete."""


_log = logging.getLogger("svcdns.inspection")


class StateError(SvcdnsError):
    """Raised if the state of the cluster cannot be read."""


class _Unobserved:
    """An observer of requests that counts nothing."""

    def request(self, verb: str, host: str, code: str, method: str, seconds: float | None) -> None:
        """Does nothing."""

    def received(self, resource: str, octets: int) -> None:
        """Does nothing."""


class _Refused(logging.Handler):
    """Cancels `following` at a log line about a refused connection, and keeps its error as `reason`."""

    def __init__(self, following: asyncio.Future[None]) -> None:
        super().__init__(logging.WARNING)
        self._following = following
        self.reason = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Looks at the error of one log line."""
        error = record.msg.fields.get("error") if isinstance(record.msg, LogLine) else None
        if "connection refused" in str(error):
            self.reason = str(error)
            self._following.cancel()


async def index_of(options: WatchOptions) -> Index:
    """Returns an index with all objects that the options select. Raises SvcdnsError."""
    source = _source(options)
    await source.configure()
    if "-" in options.manifests and getattr(source, "is_unusable", False):
        raise StateError("'-': standard input has no document that can be used")
    index = Index(source.kinds)

    def apply(changes: Iterable[Change]) -> None:
        for change in changes:
            index.apply(change)
        if index.synced:
            following.cancel()

    following = asyncio.ensure_future(source.follow(apply))
    refused = _Refused(following)
    _log.addHandler(refused)
    try:
        async with asyncio.timeout(LIMIT):
            await following
    except asyncio.CancelledError as error:
        if refused.reason and not index.synced:
            hint = "'--server PATH' with the socket of a running server uses that server's state"
            raise StateError(f"the cluster cannot be read: {refused.reason}; {hint}") from error
        if not index.synced:
            raise
    except TimeoutError as error:
        where = options.endpoint or options.kubeconfig or "the API server"
        raise StateError(f"{where} did not list the objects of the cluster within {LIMIT:g} seconds") from error
    finally:
        _log.removeHandler(refused)
    return index


def _source(options: WatchOptions) -> ChangeSource:
    if options.manifests:
        from svcdns.sources.manifests import ManifestsSource

        return ManifestsSource(options, log=_log)
    from svcdns.sources.api.source import ApiServerSource

    return ApiServerSource(options, log=_log, observe=_Unobserved())
