"""The `loadbalance` plugin: varies the order of addresses from answer to answer
(docs/behaviour/plugins.md#loadbalance).

The handler says how a reply is to be arranged; the table compiles such a reply in several variants, so that a hit costs no shuffling.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

import msgspec

from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.contract import Following, Plugin, then
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply, Variants
from svcdns.plugins.loadbalance.options import Options, unpacked
from svcdns.plugins.loadbalance.rotation import Rotation, WeightedDraw, preferring
from svcdns.wire.codes import Rcode, Type

_WEIGHTED: Final = (Type.A, Type.AAAA, Type.SRV)


class LoadBalance(Plugin):
    """Marks replies whose addresses are to be rotated, drawn by weight, or put behind preferred ones."""

    name = "loadbalance"

    def __init__(self, options: Options, environment: Environment) -> None:
        """Weights come from control, now or later."""
        self._options, self._environment = options, environment
        self._owner: Dependency = ("weights", options.path)
        self._rotate: Callable[[Reply, Random], Variants] = Rotation
        if options.preferred:
            self._rotate = partial(Rotation, order=preferring(options.preferred))
        if options.path:
            self._take(environment.data("loadbalance", options.path))
            environment.on_data("loadbalance", options.path, self._changed)

    def _take(self, content: bytes | None) -> None:
        self._rotate = partial(WeightedDraw, weights=unpacked(content) if content else {})

    def _changed(self, content: bytes) -> None:
        self._take(content)
        self._environment.invalidate((self._owner,))

    def name_independent(self, zone: bytes) -> bool:  # noqa: ARG002 - one record has no order
        """Every name alike: there is nothing to vary in a negative answer."""
        return True

    def join_fast_path(self, fast_path: FastPath) -> bool:
        """Addresses in random order; not where some come before others."""
        fast_path.shuffles = True
        return not (self._options.preferred or self._options.path)

    def handle(self, query: Query, following: Following) -> Answer:
        """Asks on; every NOERROR reply that was written comes back marked. Never a zone transfer."""
        rtype = query.rtype
        if rtype in (Type.AXFR, Type.IXFR) or (self._options.path and rtype not in _WEIGHTED):
            return following(query)
        return then(following(query), self._marked)

    def _marked(self, reply: Reply) -> Reply:
        if reply.rcode != Rcode.NOERROR or not reply.has_message or (len(reply.answer) < 2 and len(reply.additional) < 2):
            return reply
        if self._options.path:
            return msgspec.structs.replace(reply, rotate=self._rotate, dependencies=(*reply.dependencies, self._owner))
        return msgspec.structs.replace(reply, rotate=self._rotate)
