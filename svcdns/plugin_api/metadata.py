"""Metadata of a query: texts under labels such as `geoip/country/code`, from the plugins of its server block.

A block with the directive *metadata* has metadata. The part of a label before the first slash is the name of the plugin
that provides the value (`Plugin.metadata`), or one of the plugin's `metadata_names`. Values are computed when they are
read, and always from the query as the client sent it, also after *rewrite* has changed it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Provider = Callable[[Any, str], str]
"""Returns the value of a label for a `Query`; empty if there is none."""


class Metadata:
    """The metadata of one query."""

    __slots__ = ("_providers", "_query")

    def __init__(self, providers: Mapping[str, Provider], query: Any) -> None:
        """`providers` are the hooks of the block's plugins, by the name of the plugin."""
        self._providers, self._query = providers, query

    def value(self, label: str) -> str:
        """Returns the value of a label; empty if there is none."""
        provider = self._providers.get(label.partition("/")[0])
        return "" if provider is None else provider(self._query, label)

    def of(self, query: Any) -> Metadata:
        """Returns the metadata of another query to the same server block."""
        return Metadata(self._providers, query)
