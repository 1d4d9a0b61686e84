"""The data of plugins: what control reads from files for them, and hands to the workers as octets.

`gather` reads everything for a new Corefile. `Refresher` reads the files again while the Corefile serves, each plugin
at its own interval and in a thread of its own. It does not know what the octets mean, and does not send them.

Rules:

1. A plugin's hook that raises anything but a SvcdnsError raises HookError here, with the plugin's name: no plugin ends
   control.
2. A refresh that fails or does not return keeps the content that was read last, and delays no other plugin.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from svcdns import plugins
from svcdns.chain.plan import BlockPlan
from svcdns.corefile.blocks import Position
from svcdns.errors import SvcdnsError
from svcdns.plugin_api.errors import HookError
from svcdns.process.blocking_io import BlockingCalls

IDLE: Final = 10.0
"""Seconds after which a plugin without an interval is queried for it again: its file may have appeared."""
RETRY: Final = 5.0
"""Seconds after a refresh that failed, besides the interval."""
READ_LIMIT: Final = 60.0
"""Seconds that reading the files of one plugin may take at a start or a reload."""

T = TypeVar("T")

log = logging.getLogger("svcdns")


class DataKey(NamedTuple):
    """Names one piece of data: the plugin, and the key that the plugin gives it."""

    plugin: str
    key: str


PluginData = Mapping[DataKey, bytes]


class PluginFiles(NamedTuple):
    """The files of one plugin in one server block. `position` is that of its first directive."""

    plugin: str
    module: Any
    options: Any
    position: Position

    @property
    def shown(self) -> str:
        """The name in log lines."""
        return f"files of the plugin {self.plugin} ({self.position.file}:{self.position.line})"

    @property
    def is_refreshed(self) -> bool:
        """Whether the plugin reads its files again. `refresh` may be the name of a submodule as well, `period` is the
        hook's alone."""
        return hasattr(self.module, "period")

    def gather(self, known: PluginData) -> dict[DataKey, bytes]:
        """The data for a new Corefile. Blocks. Raises SvcdnsError."""
        return self._data("gather", known)

    def refresh(self, known: PluginData) -> dict[DataKey, bytes]:
        """The data that differs from `known` now. Blocks. Raises SvcdnsError."""
        return {key: payload for key, payload in self._data("refresh", known).items() if known.get(key) != payload}

    def period(self) -> float:
        """Seconds from one refresh to the next; 0 for never. May block."""
        return self._call("period", float, self.options)

    def _data(self, hook: str, known: PluginData) -> dict[DataKey, bytes]:
        own = {key: payload for (plugin, key), payload in known.items() if plugin == self.plugin}
        return {
            DataKey(self.plugin, key): payload for key, payload in self._call(hook, dict, self.options, own).items()
        }

    def _call(self, hook: str, kind: Callable[[Any], T], *arguments: Any) -> T:
        try:
            return kind(getattr(self.module, hook)(*arguments))
        except SvcdnsError:
            raise
        except Exception as error:
            log.debug("plugin/%s: %s failed", self.plugin, hook, exc_info=True)
            raise HookError(self.position, self.plugin, hook, error) from error


def plugin_files(plans: Iterable[BlockPlan]) -> list[PluginFiles]:
    """The plugins that read files, for each block in file order."""
    out = []
    for block in plans:
        for name, options in block.options.items():
            module = plugins.load(name)
            if hasattr(module, "gather"):
                out.append(PluginFiles(name, module, options, block.block(name).directives[0].position))
    return out


def gather(files: Iterable[PluginFiles], before: PluginData) -> dict[DataKey, bytes]:
    """The data of all these plugins. `before` is the data of the last Corefile: a plugin may reuse it. Blocks. Raises
    SvcdnsError."""
    out: dict[DataKey, bytes] = {}
    for one in files:
        out |= one.gather(before)
    return out


async def gather_in_threads(
    calls: BlockingCalls, files: Iterable[PluginFiles], before: PluginData
) -> dict[DataKey, bytes]:
    """As `gather`, outside the event loop. Raises BlockedError too, where the files of one plugin cannot be read within
    READ_LIMIT."""
    out: dict[DataKey, bytes] = {}
    for one in files:
        out |= await calls.run(one.shown, one.gather, before, limit=READ_LIMIT, key=f"gather {one.options}")
    return out


class Refresher:
    """Reads the files of plugins again, each at its interval."""

    def __init__(
        self,
        calls: BlockingCalls,
        known: Callable[[], PluginData],
        changed: Callable[[dict[DataKey, bytes]], Awaitable[None]],
        failed: Callable[[SvcdnsError], None],
    ) -> None:
        """`known` gives the data that serves; `changed` is awaited with the part of it that is new; `failed` gets each
        error."""
        self._calls, self._known, self._changed, self._failed = calls, known, changed, failed
        self._tasks: list[asyncio.Task[None]] = []

    def follow(self, files: Iterable[PluginFiles]) -> None:
        """Reads these files from now on, and no others. A read that is under way for others is dropped."""
        for task in self._tasks:
            task.cancel()
        distinct: list[PluginFiles] = []
        for one in files:
            if one.is_refreshed and one not in distinct:  # blocks that import the same snippet share its files
                distinct.append(one)
        self._tasks = [asyncio.create_task(self._follow(one)) for one in distinct]

    async def stop(self) -> None:
        """Ends all of it; a blocked read is left to its thread."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _follow(self, files: PluginFiles) -> None:
        last_error = ""
        while True:
            try:
                period = await self._calls.run(files.shown, files.period, key=f"period {files.options}")
                await asyncio.sleep(period or IDLE)
                fresh = await self._refreshed(files) if period else {}
                last_error = ""
            except SvcdnsError as error:
                self._failed(error)
                if str(error) != last_error:
                    log.error("%s; the content that was read before stays in use", error)
                last_error = str(error)
                await asyncio.sleep(RETRY)
                continue
            if fresh:
                await self._changed(fresh)

    async def _refreshed(self, files: PluginFiles) -> dict[DataKey, bytes]:
        return await self._calls.run(files.shown, files.refresh, self._known(), key=f"refresh {files.options}")
