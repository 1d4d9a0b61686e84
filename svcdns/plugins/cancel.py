"""`cancel`: a time limit for each query (docs/plugins/cancel.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final

from svcdns.corefile import arguments
from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.wire.codes import Rcode

TIMEOUT: Final = 5.001
"""The default, which is just longer than most clients wait."""
LONGEST_EXCHANGE: Final = 5.0
"""The seconds after which *forward* gives a query up, if its options set no longer time."""


@dataclass(frozen=True, slots=True)
class Options:
    """The time limit of a query, in seconds."""

    timeout: float = TIMEOUT


def parse(block: Block) -> Options:
    """Returns the options of the block's last `cancel` directive. Raises CorefileError."""
    options = Options()
    for directive in block.directives:
        arguments.no_body(directive)
        words = arguments.arguments(directive, 0, 1)
        if words:
            try:
                options = Options(arguments.duration(words[0]))
            except CorefileError as error:
                raise CorefileError(words[0].position, f'invalid duration: "{words[0].text}"') from error
            if options.timeout <= 0:
                raise CorefileError(words[0].position, f'invalid negative duration: "{words[0].text}"')
        else:
            options = Options()
    return options


class Cancel(Plugin):
    """Answers SERVFAIL if the following plugins have no reply in time."""

    name = "cancel"
    reads_nothing = True

    def __init__(self, options: Options, environment: Environment) -> None:  # noqa: ARG002
        """Keeps the time limit."""
        self._timeout = options.timeout

    def name_independent(self, zone: bytes) -> bool:  # noqa: ARG002
        """Returns True: negative answers pass unchanged."""
        return True

    def join_fast_path(self, fast_path: FastPath) -> bool:  # noqa: ARG002
        """Returns True if the limit is longer than *forward* waits, so that it has no effect on the fast path."""
        return self._timeout > LONGEST_EXCHANGE

    def answers_like(self, previous: Plugin) -> bool:  # noqa: ARG002
        """Returns True, because replies depend only on the options, the query and the rest of the chain."""
        return True

    def handle(self, query: Query, following: Following) -> Answer:
        """Returns the answer of the following plugins; SERVFAIL if it does not come in time."""
        answer = following(query)
        return answer if isinstance(answer, Reply) else self._limited(answer)

    async def _limited(self, answer: Awaitable[Reply]) -> Reply:
        try:
            async with asyncio.timeout(self._timeout):
                return await answer
        except TimeoutError:
            return rcode_only(Rcode.SERVFAIL, "plugin/cancel: the time limit of the query is over")


PLUGIN: Final = Cancel
