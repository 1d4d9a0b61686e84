"""`loop`: ends the server when it would forward to itself for ever (spec C-loop).

At its start a worker asks its own first address for a random name. If that name comes in more than twice, something leads
our questions back to us. Control makes the name, so that all workers know it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from svcdns.chain.environment import Block, Environment
from svcdns.chain.handler import Following
from svcdns.chain.query import Answer, Query
from svcdns.corefile import reading
from svcdns.upstream.exchange import ExchangeError, Question, over_udp, shown
from svcdns.wire import names
from svcdns.wire.codes import RD, Class, Type

PATIENCE: Final = 30.0
"""Seconds in which the probe is tried."""
RETRY: Final = 1.0
TIMEOUT: Final = 2.0
MOST: Final = 2
"""How often the probe may be seen: once by us, once more if it was repeated."""
_NUMBER: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Options:
    """The zone that the probe's name lies in."""

    zone: str


def parse(block: Block) -> Options:
    """The options of the block's `loop` directive. Raises CorefileError."""
    directive = reading.once(block.directives)
    reading.arguments(directive, 0, 0)
    reading.no_body(directive)
    return Options(block.zones[0])


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """The probe's name for the zone; made once."""
    if options.zone in known:
        return {options.zone: known[options.zone]}
    zone = "" if options.zone == "." else options.zone
    return {options.zone: f"{secrets.randbelow(_NUMBER)}.{secrets.randbelow(_NUMBER)}.{zone}".encode()}


class Loop:
    """Looks for its probe among the questions, until the probe was answered."""

    name = "loop"

    def __init__(self, options: Options, environment: Environment) -> None:
        """The probe goes to the block's first address."""
        host, port = environment.listen_addresses[0]
        self._target = (host or "127.0.0.1", port)
        self._zone, self._log, self._fatal = options.zone, environment.log, environment.fatal
        text = environment.data("loop", options.zone) or gather(options, {})[options.zone]
        self._probe = names.from_text(text.decode())
        self._seen = 0
        self._active = True
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sends the probe, again and again for a while if nobody answers."""
        self._task = asyncio.ensure_future(self._ask_ourselves())

    def stop(self) -> None:
        """Ends the probe."""
        self._active = False
        if self._task is not None:
            self._task.cancel()

    def handle(self, query: Query, following: Following) -> Answer:
        """Counts the probe; every question goes on."""
        if self._active and query.rtype == Type.HINFO and query.key == self._probe:
            self._seen += 1
            if self._seen > MOST:
                self._active = False
                client = query.client
                self._fatal(
                    f"plugin/loop: Loop ({shown((client.address, client.port))} -> {shown((client.local_address, client.local_port))})"
                    f' detected for zone "{self._zone}", see docs/plugins/loop.md. Query: "HINFO {names.to_text(self._probe)}"'
                )
        return following(query)

    async def _ask_ourselves(self) -> None:
        question = Question(self._probe, Type.HINFO, Class.IN, RD)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        while self._active and loop.time() < deadline:
            try:
                await over_udp(question, self._target, TIMEOUT)
            except ExchangeError:
                self._seen = 0
                await asyncio.sleep(RETRY)
            else:
                break
        self._active = False


PLUGIN: Final = Loop
