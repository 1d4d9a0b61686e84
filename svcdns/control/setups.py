"""Loads the configuration of the control process: the Corefile and the files of its plugins.

All reads run in threads (`BlockingCalls`), because files may hang.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass, replace
from math import inf
from typing import Final

from svcdns.control.configuration import Setup, check
from svcdns.control.last_good_corefile import LastGoodCorefile
from svcdns.control.plugin_data import PluginData, gather_in_threads, plugin_files
from svcdns.corefile.blocks import Corefile
from svcdns.corefile.load import BUILT_IN, load
from svcdns.errors import SvcdnsError
from svcdns.log_line import LogLine
from svcdns.process.blocking_io import BlockingCalls
from svcdns.telemetry.logging import RepeatedWarnings

RETRY: Final = 2.0
"""Seconds between two attempts of a restarted control process to read a Corefile that is unusable."""
READ_LIMIT: Final = 60.0
"""Seconds that reading the Corefile may take at a start."""

log = logging.getLogger("svcdns")


@dataclass(frozen=True, slots=True)
class Options:
    """Settings from the command line and from the supervisor. `state` is the path of the state folder.

    If `again` is true, an earlier control process has served. If `beside` is true, the earlier process still serves.
    """

    conf: str | None
    port: int
    quiet: bool
    again: bool = False
    beside: bool = False
    state: str | None = None
    loaded: Corefile | SvcdnsError | None = None
    """The Corefile if it has been read already, or why it cannot be used. Only the first setup uses it."""


class Setups:
    """Loads the Corefile of a control process, and the data that its plugins need."""

    def __init__(self, options: Options, calls: BlockingCalls, last_good: LastGoodCorefile) -> None:
        """`calls` runs the blocking calls; `last_good` keeps the last Corefile that was usable."""
        self._options, self._calls, self._last_good = options, calls, last_good
        self._loaded = options.loaded
        self._warnings = RepeatedWarnings()

    async def load(self, limit: float = inf) -> Corefile:
        """Reads and parses the Corefile. Raises SvcdnsError, also if this takes more than `limit` seconds."""
        return await self._calls.run("the Corefile", self._load, limit=limit)

    async def load_again(self, serving: Corefile) -> Corefile:
        """Reads and parses the Corefile for a reload. Raises SvcdnsError.

        A file without a server block, perhaps not completely written, does not replace the Corefile `serving`.
        """
        corefile = await self.load()
        if corefile.path == BUILT_IN and serving.path != BUILT_IN:
            raise SvcdnsError("the Corefile has no server block; a server block was expected")
        return corefile

    async def first(self) -> Setup:
        """Returns the settings for a start, from the Corefile or else from the last good Corefile.

        If neither is usable, raises SvcdnsError at the first start of control. A restarted control process waits and
        tries again, because the workers still answer.
        """
        logged = ""
        while True:
            try:
                corefile = await self._loaded_or_load()
                return await self.prepare(corefile, {})
            except SvcdnsError as error:
                setup = await self._from_last_good(error)
                if setup is not None:
                    return setup
                if not self._options.again:
                    raise
                if str(error) != logged:
                    log.error(
                        LogLine("the Corefile is not used; the workers serve the chains that they have", error=error)
                    )
                logged = str(error)
                await asyncio.sleep(RETRY)

    async def _loaded_or_load(self) -> Corefile:
        loaded, self._loaded = self._loaded, None
        if isinstance(loaded, SvcdnsError):
            raise loaded
        return loaded if loaded is not None else await self.load(READ_LIMIT)

    async def _from_last_good(self, error: SvcdnsError) -> Setup | None:
        saved = await self._last_good.find()
        if saved is None:
            return None
        try:
            setup = await self.prepare(saved.corefile, {})
        except SvcdnsError as reason:
            self._last_good.refused(reason)
            return None
        self._last_good.takes_over(saved, error)
        return setup

    def _load(self) -> Corefile:
        return load(self._options.conf, environ=os.environ, default_port=self._options.port)

    async def prepare(self, corefile: Corefile, before: PluginData, *, requested: bool = False) -> Setup:
        """Checks a Corefile, reads the files of its plugins, and returns the resulting settings. Raises SvcdnsError.

        `before` has the data of the previous Corefile's plugins. A WARNING line is written once for each Corefile, or
        again if `requested` is true.
        """
        with self._warnings.reading(None if requested else corefile.digest):
            setup = await self._calls.run(
                "the options of the Corefile",
                check,
                corefile,
                self._options.state,
                limit=READ_LIMIT,
                key=corefile.digest,
            )
            return replace(setup, data=await gather_in_threads(self._calls, plugin_files(setup.plans), before))
