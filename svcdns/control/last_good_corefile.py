"""The Corefile that served last: kept in the state folder, and served, loudly, where the present one cannot be used at a start."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from svcdns.control.configuration import Setup, work_out
from svcdns.control.state_folder import FALLBACK, StateError, StateFolder
from svcdns.errors import SvcdnsError
from svcdns.telemetry.counters import Counters

log = logging.getLogger("svcdns")


class LastGood:
    """All of it; without a state folder nothing is kept, and nothing is found."""

    def __init__(self, folder: str | None, counters: Counters) -> None:
        """`folder` is what `-state` named. The methods block: they are for a thread."""
        self._state = StateFolder(Path(folder)) if folder else None
        self._counters = counters
        self.serves = False
        """Whether it serves in the place of the present one."""

    def instead(self, error: SvcdnsError) -> Setup | None:
        """The set-up of the Corefile that served last, as the present one cannot be used; None where there is none of use."""
        if self._state is None:
            return None
        try:
            kept = self._state.last_good()
            setup = work_out(kept.corefile, {}) if kept is not None else None
        except SvcdnsError as reason:
            log.error("the last good Corefile cannot be used: %s", reason)
            return None
        if kept is not None:
            when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(kept.time))
            log.error("Corefile: %s; serving the one that was good last, of %s", error, when)
            self._counters.set(self._counters.cell(FALLBACK), 1)
            self.serves = True
        return setup

    def keep(self, setup: Setup) -> None:
        """Notes down that this Corefile serves."""
        self.serves = False
        if self._state is not None:
            self._counters.set(self._counters.cell(FALLBACK), 0)
            try:
                self._state.keep(setup.written, time.time())
            except StateError as error:
                log.warning("%s", error)
