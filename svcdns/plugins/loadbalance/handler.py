"""The `loadbalance` plugin: varies the order of addresses (docs/behaviour/plugins.md#loadbalance).

For each reply, the plugin states how the order may vary. The answer table encodes several variants of the reply, and
sends them in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

import msgspec

from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.cold_path import ColdPath
from svcdns.plugin_api.contract import Following, Plugin, then
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply, Variants
from svcdns.plugins.loadbalance.options import Options, decode
from svcdns.plugins.loadbalance.rotation import Rotation, WeightedDraw, preferring
from svcdns.wire.codes import Rcode, Type

_WEIGHTED: Final = (Type.A, Type.AAAA, Type.SRV)


class LoadBalance(Plugin):
    """States how the order of addresses varies: rotated, drawn by weight, or sorted by preferred networks."""

    name = "loadbalance"
    reads_nothing = True

    def __init__(self, options: Options, environment: Environment) -> None:
        """Takes the weights that the control process has sent, and registers for later versions."""
        self._options, self._environment = options, environment
        self._dependency: Dependency = ("weights", options.path)
        self._rotate: Callable[[Reply, Random], Variants] = Rotation
        if options.preferred:
            self._rotate = partial(Rotation, order=preferring(options.preferred))
        if options.path:
            self._set_weights(environment.data("loadbalance", options.path))
            environment.on_data("loadbalance", options.path, self._weights_changed)

    def _set_weights(self, content: bytes | None) -> None:
        self._rotate = partial(WeightedDraw, weights=decode(content) if content else {})

    def _weights_changed(self, content: bytes) -> None:
        self._set_weights(content)
        self._environment.invalidate((self._dependency,))

    def name_independent(self, zone: bytes) -> bool:  # noqa: ARG002 - a negative answer has no order
        """Returns True, because this plugin does not change negative answers."""
        return True

    def join_fast_path(self, fast_path: FastPath) -> bool:
        """Lets the fast path (forwarding without the plugin chain) shuffle addresses, and returns True.

        Returns False if weights or preferred networks are configured.
        """
        fast_path.shuffles = True
        return not (self._options.preferred or self._options.path)

    def join_cold_path(self, cold_path: ColdPath) -> bool:
        """Lets the cold path (replies without the plugin chain) rotate addresses, and returns True.

        Returns False if weights or preferred networks are configured.
        """
        cold_path.shuffles = True
        return not (self._options.preferred or self._options.path)

    def answers_like(self, previous: Plugin) -> bool:  # noqa: ARG002
        """Returns True: replies that depend on changed data are dropped, also during a reload."""
        return True

    def handle(self, query: Query, following: Following) -> Answer:
        """Returns the following plugins' answer. For a NOERROR message, states how the order of its records varies.

        Zone transfers are not changed. With weights, only replies to A, AAAA and SRV queries are changed.
        """
        rtype = query.rtype
        if rtype in (Type.AXFR, Type.IXFR) or (self._options.path and rtype not in _WEIGHTED):
            return following(query)
        return then(following(query), self._marked)

    def _marked(self, reply: Reply) -> Reply:
        if (
            reply.rcode != Rcode.NOERROR
            or not reply.has_message
            or (len(reply.answer) < 2 and len(reply.additional) < 2)
        ):
            return reply
        if self._options.path:
            return msgspec.structs.replace(
                reply, rotate=self._rotate, dependencies=(*reply.dependencies, self._dependency)
            )
        return msgspec.structs.replace(reply, rotate=self._rotate)
