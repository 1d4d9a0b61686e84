"""Fetches hosted zones from DNS providers, in the control process.

Rules:

1. The requests run in threads, so that they do not delay the event loop. The library of a provider is imported only if
   a Corefile has its plugin.
2. At a start or a reload, a zone that cannot be fetched is an error, as in CoreDNS.
3. Later, a failed fetch keeps the last content of the zone. The next fetch then waits longer, up to LONGEST_WAIT
   seconds or the refresh time, whichever is longer.
4. The texts of errors have no credentials: `Redactor` removes them.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, Protocol

from svcdns.corefile.errors import CorefileError
from svcdns.log_line import LogLine
from svcdns.process.blocking_io import in_thread
from svcdns.telemetry.logging import plugin_logger
from svcdns.wire import names
from svcdns.wire.codes import Type
from svcdns.wire.record import Record
from svcdns.zones.content import encode
from svcdns.zones.hosted_zones import (
    HostedZone,
    Options,
    ProviderError,
    RefreshState,
    ZoneSource,
    encode_state,
    state_key,
)

THREADS: Final = 4
"""The most requests of one source at the same time."""
JITTER: Final = 0.1
"""The largest addition to the time between two fetches, as a part of this time."""
LONGEST_WAIT: Final = 300.0
"""The longest time in seconds between two fetches after failures, if the refresh time is not longer."""
MAX_WARNINGS: Final = 10
"""The most warnings about the records of one zone that are logged."""
LEAST_SECRET: Final = 6
"""The least length of a text that is removed from error texts as a secret. Shorter texts may be parts of words."""

Publish = Callable[[Mapping[str, bytes]], Awaitable[None]]
"""Sends changed data to the workers."""


class Fetched(NamedTuple):
    """The records of a hosted zone, and log lines about records that are left out."""

    records: list[Record]
    warnings: Sequence[str] = ()


class ZoneClient(Protocol):
    """A client of a provider. The methods block, and several threads may call them."""

    def check(self, hosted: HostedZone) -> None:
        """Checks that the zone can be read. Raises ProviderError."""
        ...

    def fetch(self, hosted: HostedZone) -> Fetched:
        """Returns the records of a zone. Raises ProviderError."""
        ...


class Provider(NamedTuple):
    """A provider, and the beginnings of its error texts, which are those of CoreDNS.

    `connect` makes a client from a source, and may raise ProviderError. `package` is the Python module that the client
    needs. `loggers` are the loggers of the libraries; they are turned off, because they may log credentials.
    """

    plugin: str
    package: str
    connect: Callable[[Any], ZoneClient]
    loggers: tuple[str, ...]
    not_connected: str
    not_checked: str
    not_fetched: str


class Redactor:
    """Removes secrets from error texts."""

    def __init__(self, secrets: Iterable[str | None]) -> None:
        """Secrets of less than LEAST_SECRET characters are ignored."""
        self._secrets = sorted({one for one in secrets if one and len(one) >= LEAST_SECRET}, key=len, reverse=True)

    def text(self, error: BaseException) -> str:
        """Returns the text of an error in one line, without secrets."""
        text = " ".join(str(error).split()) or type(error).__name__
        for secret in self._secrets:
            text = text.replace(secret, "...")
        return text


def gather(provider: Provider, options: Options) -> dict[str, bytes]:
    """Fetches all zones of a server block. Returns the data for the workers. Blocks. Raises CorefileError."""
    out: dict[str, bytes] = {}
    for group in options.groups:

        def failed(text: str, position: Any = group.position) -> CorefileError:
            return CorefileError(position, f"plugin/{provider.plugin}: {text}")

        if not _is_installed(provider.package):
            extra = f"install svcdns[{provider.plugin}], or build the image with EXTRAS={provider.plugin}"
            raise failed(f"the Python package '{provider.package}' is missing: {extra}")
        out |= _first(provider, group.source, failed)
    return out


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # the parent of a module such as `google.auth`
        return False


def _first(provider: Provider, source: ZoneSource, failed: Callable[[str], CorefileError]) -> dict[str, bytes]:
    try:
        client = _connected(provider, source)
    except ProviderError as error:
        raise failed(f"{provider.not_connected}{error}") from error
    for problem in _in_threads(client.check, source.hosted).values():
        if isinstance(problem, ProviderError):
            raise failed(f"{provider.not_checked}{problem}") from problem
    fetches = Fetches(provider, source)
    contents = fetches.run(client)
    if fetches.errors:
        raise failed(f"{provider.not_fetched}{fetches.error_text()}")
    return contents


def _connected(provider: Provider, source: ZoneSource) -> ZoneClient:
    for name in provider.loggers:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return provider.connect(source)


class Fetches:
    """Fetches the zones of one source again and again."""

    def __init__(self, provider: Provider, source: ZoneSource) -> None:
        self._provider, self._source = provider, source
        self._log = plugin_logger(provider.plugin)
        self._states = dict.fromkeys(source.hosted, RefreshState())
        self._warnings: dict[HostedZone, tuple[str, ...]] = {}
        """The last warnings about each zone, which are not logged again."""
        self.errors: list[str] = []
        """The errors of the last fetch."""

    def run(self, client: ZoneClient) -> dict[str, bytes]:
        """Fetches all zones, and returns the data for the workers. Sets `errors`. Blocks."""
        self.errors = []
        out: dict[str, bytes] = {}
        for hosted, found in _in_threads(client.fetch, self._source.hosted).items():
            key, state = self._source.key(hosted), self._states[hosted]
            if isinstance(found, ProviderError):
                self.errors.append(str(found))
                state = RefreshState(state.failed + 1, state.fetched)
            else:
                out[key] = self._content(hosted, found)
                state = RefreshState(state.failed, int(time.time()))
            self._states[hosted] = state
            out[state_key(key)] = encode_state(state)
        return out

    def fail(self, error: ProviderError) -> dict[str, bytes]:
        """Counts a failure for each zone, because there is no client. Returns the data for the workers."""
        self.errors = [str(error)]
        self._states = {hosted: RefreshState(state.failed + 1, state.fetched) for hosted, state in self._states.items()}
        return {state_key(self._source.key(hosted)): encode_state(state) for hosted, state in self._states.items()}

    def resume(self, fetched: int) -> None:
        """Sets the time of the last fetch of all zones."""
        self._states = {hosted: RefreshState(0, fetched) for hosted in self._states}

    def error_text(self) -> str:
        """Returns the text of all errors, in the form of CoreDNS."""
        return f"errors updating zones: [{' '.join(self.errors)}]"

    def log_errors(self) -> None:
        """Writes the line of CoreDNS about a failed refresh."""
        zones = " ".join(dict.fromkeys(hosted.zone for hosted in self._source.hosted))
        self._log.error("Failed to update zones [%s]: %s", zones, self.error_text())

    def _content(self, hosted: HostedZone, found: Fetched) -> bytes:
        """Returns a zone for the workers; empty if it has no SOA record. As in CoreDNS, the last SOA record counts."""
        apex = names.from_text(hosted.zone).lower()
        warnings = list(found.warnings)
        soas = [record for record in found.records if record.rtype == Type.SOA]
        if not soas:
            warnings.append(
                LogLine("a zone has no SOA record: queries for it get SERVFAIL", zone=hosted.zone, id=hosted.ident)
            )
        self._warn(hosted, warnings)
        own = [record for record in found.records if names.is_within(record.owner.lower(), apex)]
        return encode(soas[-1], own, 0) if soas else b""

    def _warn(self, hosted: HostedZone, warnings: Sequence[str]) -> None:
        if self._warnings.get(hosted, ()) == tuple(warnings):
            return
        self._warnings[hosted] = tuple(warnings)
        for text in warnings[:MAX_WARNINGS]:
            self._log.warning(text)
        if len(warnings) > MAX_WARNINGS:
            more = len(warnings) - MAX_WARNINGS
            self._log.warning(LogLine("more warnings about the zone", zone=hosted.zone, warnings=more))


def wait_time(refresh: float, failures: int) -> float:
    """Returns the seconds until the next fetch, after a number of failed fetches in a row."""
    longest = max(refresh, LONGEST_WAIT)
    return min(refresh * 2.0 ** min(failures, 10), longest) * random.uniform(1.0, 1.0 + JITTER)


async def watch(provider: Provider, source: ZoneSource, publish: Publish) -> None:
    """Fetches the zones of a source periodically, until the task is cancelled. `gather` has fetched them before."""
    fetches, client, failures = Fetches(provider, source), None, 0
    fetches.resume(int(time.time()))
    while True:
        await asyncio.sleep(wait_time(source.refresh, failures))
        try:
            if client is None:
                client = await in_thread(_connected, provider, source)
            data = await in_thread(fetches.run, client)
        except ProviderError as error:
            data = fetches.fail(error)
        if fetches.errors:
            fetches.log_errors()
        failures = failures + 1 if fetches.errors else 0
        await publish(data)


def _in_threads(function: Callable[[HostedZone], Any], hosted: Sequence[HostedZone]) -> dict[HostedZone, Any]:
    """Calls a function for each zone, in a few threads. Returns the results, and the ProviderError of each failed call.

    If a call raises another exception, it is raised here.
    """
    todo: SimpleQueue[HostedZone] = SimpleQueue()
    for one in hosted:
        todo.put(one)
    results: dict[HostedZone, Any] = {}
    others: list[BaseException] = []

    def work() -> None:
        while not others:
            try:
                one = todo.get_nowait()
            except Empty:
                return
            try:
                results[one] = function(one)
            except ProviderError as error:
                results[one] = error
            except BaseException as error:  # noqa: BLE001  raised again below
                others.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(THREADS, len(hosted)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if others:
        raise others[0]
    return {one: results[one] for one in hosted}
