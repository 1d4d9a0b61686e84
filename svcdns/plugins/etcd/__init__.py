"""The `etcd` plugin: answers from services in etcd, in the form of SkyDNS; see docs/plugins/etcd.md."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from svcdns.corefile.errors import CorefileError
from svcdns.plugins.etcd.handler import Etcd
from svcdns.plugins.etcd.options import Options, Source, parse
from svcdns.tls.errors import TlsError
from svcdns.tls.material import read

PLUGIN: Final = Etcd


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Checks the files of the option `tls`. Returns those data in `known` that belong to the source.

    Raises CorefileError.
    """
    try:
        read(*options.source.tls)
    except TlsError as error:
        raise CorefileError(options.position, f"plugin/etcd: {error}") from error
    key = options.source.key
    return {name: payload for name, payload in known.items() if name.startswith(f"{key} ")}


def sources(options: Options) -> tuple[Source, ...]:
    """Returns the source that the control process watches."""
    return (options.source,)


async def watch(source: Source, publish: Callable[[Mapping[str, bytes]], Awaitable[None]]) -> None:
    """Watches a source until the task is cancelled. Only the control process imports the library for gRPC."""
    from svcdns.plugins.etcd.watcher import Watcher

    await Watcher(source, publish).run()


__all__ = ["PLUGIN", "Etcd", "Options", "Source", "gather", "parse", "sources", "watch"]
