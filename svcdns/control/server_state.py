"""The page `/v1/state`: what a tool needs to answer queries as this server does (docs/explain.md).

The document is msgpack, and its format belongs to one version of the program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from svcdns import __version__, plugins
from svcdns.cluster.changes import Kind, Serials
from svcdns.control.cache_pages import RequestError
from svcdns.control.cluster_views import number_of
from svcdns.control.status import ServerParts
from svcdns.corefile.blocks import Corefile

FORMAT: Final = 1
MAX_OCTETS: Final = 64 << 20
"""The largest size of all objects and data together, in octets. Control needs this memory while it sends them."""


class ViewState(msgspec.Struct, frozen=True, array_like=True):
    """The objects of a cluster view, as msgpack. `complete` has the kinds of which every object is known."""

    watch: bytes
    kinds: tuple[Kind, ...]
    complete: tuple[Kind, ...]
    serials: Serials
    objects: dict[Kind, list[bytes]]


class ServerState(msgspec.Struct, frozen=True, array_like=True):
    """The Corefile, the addresses of each block, the data of plugins, and the cluster views."""

    format: int
    version: str
    corefile: Corefile
    hosts: tuple[tuple[str, ...], ...]
    data: list[tuple[str, str, bytes]]
    views: list[ViewState]


class StatePage:
    """Makes the document."""

    def __init__(self, parts: ServerParts) -> None:
        self._parts = parts

    async def state(self, _query: Mapping[str, str]) -> bytes:
        """Returns the document. Raises RequestError if the server has too many objects."""
        setup, views = self._parts.setup(), self._parts.views
        data = [
            (key.plugin, key.key, payload)
            for key, payload in self._parts.workers.plugin_data().items()
            if not plugins.load(key.plugin).PLUGIN.is_certificate(key.key)
        ]
        found = []
        for encoded in setup.views:
            view = views.by_number.get(number_of(encoded))
            if view is not None:
                objects = {kind: list(named.values()) for kind, named in view.objects().items()}
                found.append(ViewState(encoded, view.kinds, tuple(view.completed), view.serials, objects))
        size = sum(len(payload) for _, _, payload in data)
        size += sum(len(one) for view in found for group in view.objects.values() for one in group)
        if size > MAX_OCTETS:
            raise RequestError(
                f"the server has {size >> 20} MiB of objects, and sends {MAX_OCTETS >> 20}; use --kubeconfig with --conf"
            )
        return msgspec.msgpack.encode(ServerState(FORMAT, __version__, setup.corefile, setup.hosts, data, found))
