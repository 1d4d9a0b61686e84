"""A query for a name in one zone of the plugin, and the records that were found for the query."""

from __future__ import annotations

from typing import Final

import msgspec

from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.query import Answer, Query
from svcdns.wire.record import Record

NAME_ALONE: Final[tuple[Dependency, ...]] = (("kubernetes",),)
"""The dependency of a reply that depends on nothing but the name. This dependency never changes."""

Alias = tuple[Record, Answer]
"""A CNAME record whose target is outside the zone, and the server's answer for that target."""


class ZoneQuery(msgspec.Struct):
    """A query, and the zone of the plugin that contains the query name.

    `zone` is in lower case; `spelled` is the same zone in the letter case of the query. The look-up appends each object
    that it reads to `dependencies`.
    """

    query: Query
    zone: bytes
    spelled: bytes
    multicluster: bool
    dependencies: list[Dependency]

    @property
    def depends_on(self) -> tuple[Dependency, ...]:
        """Returns the objects that the reply was made from; there is always at least one.

        By these objects, the plugin *cache* recognises an answer from the cluster.
        """
        return tuple(self.dependencies) or NAME_ALONE


class Result(msgspec.Struct):
    """The records of the answer section, in order, and the records of the additional section."""

    answer: list[Record | Alias]
    additional: list[Record] = msgspec.field(default_factory=list)
