"""Makes the server inside this process that `svcdns explain` and `svcdns query` send their queries to."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import click
import msgspec

from svcdns.cli.errors import CannotRun
from svcdns.cli.running_state import Fetched
from svcdns.cli.standard_input import keep_manifests
from svcdns.cluster.index import Index
from svcdns.cluster.watch_options import WatchOptions, encode_watch
from svcdns.control.plugin_data import DataKey, gather, plugin_files
from svcdns.errors import SvcdnsError
from svcdns.inspection.cluster_state import index_of
from svcdns.inspection.offline import OfflineServer
from svcdns.inspection.reading import Reading, read_given
from svcdns.inspection.rules.files import logged
from svcdns.log_line import LogLine


def cluster_corefile(zone: str, manifests: Sequence[str]) -> Reading:
    """Returns a Corefile with one block, which answers the names of the cluster in these manifests."""
    paths = " ".join('"' + str(Path(path)).replace('"', '\\"') + '"' for path in manifests)
    text = f".:53 {{\n kubernetes {zone} in-addr.arpa ip6.arpa {{\n  manifests {paths}\n  pods insecure\n }}\n}}\n"
    return read_given(text, "Corefile", environ={})


@contextlib.asynccontextmanager
async def running(
    reading: Reading, manifests: Sequence[str] = (), kubeconfig: str = "", context: str = "", *, pods: bool = False
) -> AsyncIterator[OfflineServer]:
    """Context manager for an offline server with a Corefile. Raises CannotRun.

    `manifests`, or else `kubeconfig` and `context`, replace the sources of the Corefile. If `pods` is true, all Pods
    are read.
    """
    indexes: dict[bytes, Index] = {}
    with _without_log():
        for plan in reading.plans:
            for settings in plan.settings.values():
                if settings.watch is not None:
                    key = encode_watch(settings.watch)
                    if key not in indexes:
                        source = _source(settings.watch, manifests, kubeconfig, context, pods)
                        keep_manifests(source.manifests)
                        indexes[key] = await index_of(source)
        data: dict[DataKey, bytes] = {}
        for files in plugin_files(reading.plans):
            found: list[dict[DataKey, bytes]] = []
            with contextlib.suppress(SvcdnsError):  # a file that is missing is what the query meets then
                logged(lambda files=files, found=found: found.append(gather([files], {})))  # type: ignore[misc]
            for one in found:
                data |= one
        with _started(reading, indexes, data) as server:
            yield server


@contextlib.asynccontextmanager
async def copied(state: Fetched) -> AsyncIterator[OfflineServer]:
    """Context manager for an offline server with the state of a running server. Raises CannotRun."""
    with _without_log(), _started(state.reading, state.indexes, state.data) as server:
        yield server


@contextlib.contextmanager
def _started(
    reading: Reading, indexes: Mapping[bytes, Index], data: Mapping[DataKey, bytes]
) -> Iterator[OfflineServer]:
    server = OfflineServer(reading, indexes, data)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class _ManifestWarnings(logging.Handler):
    """Writes the warnings about manifests to standard error, as `POSITION: TEXT: ERROR`, and drops other lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the line of a log record if it has a position and an error."""
        line = record.msg
        if isinstance(line, LogLine) and line.text.startswith("a manifest "):
            click.echo(f"{line.fields['position']}: {line.text}: {line.fields['error']}", err=True)


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Context manager that suppresses log lines, and raises CannotRun in place of expected errors.

    Warnings about the manifests are written to standard error.
    """
    logger = logging.getLogger("svcdns")
    before, logger.propagate = logger.propagate, False
    handler = _ManifestWarnings()
    logger.addHandler(handler)
    try:
        yield
    except SvcdnsError as failure:
        raise CannotRun(str(failure)) from failure
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def _source(watch: WatchOptions, manifests: Sequence[str], kubeconfig: str, context: str, pods: bool) -> WatchOptions:
    if manifests:
        watch = msgspec.structs.replace(watch, manifests=tuple(manifests))
    elif kubeconfig:
        watch = msgspec.structs.replace(watch, manifests=(), kubeconfig=kubeconfig, context=context, endpoint="")
    return msgspec.structs.replace(watch, pods=True, clients=True) if pods else watch
