"""The data of plugins: the content of files, which the control process reads for plugins and sends to the workers.

`gather` reads all files for a new Corefile. `Refresher` reads them again while the Corefile is in use. With the hooks
`sources` and `watch`, a plugin gets data from a server that reports its changes. Rules:

1. An exception of a plugin's hook is replaced by a HookError with the plugin's name, unless it is a SvcdnsError.
2. If a refresh fails or hangs, the previous content stays in use, and other plugins are not delayed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from svcdns import plugins
from svcdns.chain.plan import BlockPlan
from svcdns.corefile.blocks import Position
from svcdns.errors import SvcdnsError
from svcdns.log_line import LogLine
from svcdns.plugin_api.contract import contents
from svcdns.plugin_api.errors import HookError
from svcdns.process.blocking_io import BlockingCalls

IDLE: Final = 10.0
"""Seconds after which a plugin whose interval is 0 is asked for the interval again: its file may exist by then."""
RETRY: Final = 5.0
"""The longest time in seconds from a failed refresh to the next one, however long the interval is."""
READ_LIMIT: Final = 60.0
"""Seconds that reading the files of one plugin may take at a start or a reload."""

T = TypeVar("T")

log = logging.getLogger("svcdns")


class DataKey(NamedTuple):
    """Identifies one item of data: the plugin's name, and a key that the plugin chooses."""

    plugin: str
    key: str


PluginData = Mapping[DataKey, bytes]


class PluginFiles(NamedTuple):
    """The files of one plugin in one server block.

    `position` is the position of the plugin's first directive in the Corefile.
    """

    plugin: str
    module: Any
    options: Any
    position: Position

    @property
    def shown(self) -> str:
        """Returns the plugin's name and the position of its directive, for log lines."""
        return f"files of the plugin {self.plugin} ({self.position.file}:{self.position.line})"

    @property
    def is_refreshed(self) -> bool:
        """Returns True if the plugin has the hook `period`, so that its files are read again periodically."""
        return hasattr(self.module, "period")

    def gather(self, known: PluginData) -> dict[DataKey, bytes]:
        """Calls the plugin's hook `gather`, and returns the data for a new Corefile. May block. Raises SvcdnsError.

        `known` has the data of the previous Corefile, which the plugin may use again.
        """
        return self._data("gather", known)

    def refresh(self, known: PluginData) -> dict[DataKey, bytes]:
        """Calls the plugin's hook `refresh`, and returns the data that differ from `known`.

        May block. Raises SvcdnsError.
        """
        return {key: payload for key, payload in self._data("refresh", known).items() if known.get(key) != payload}

    def period(self) -> float:
        """Returns the seconds between two refreshes of the files, or 0 if they are not refreshed. May block."""
        return self._call("period", float, self.options)

    def sources(self) -> tuple[Hashable, ...]:
        """Returns the sources of data that the plugin watches; none for most plugins."""
        return self._call("sources", tuple, self.options) if hasattr(self.module, "sources") else ()

    async def watch(self, source: Hashable, publish: Callable[[Mapping[str, bytes]], Awaitable[None]]) -> None:
        """Calls the plugin's hook `watch`, which awaits `publish` with changed data. Raises SvcdnsError."""
        try:
            await self.module.watch(source, publish)
        except SvcdnsError:
            raise
        except Exception as error:
            log.debug(LogLine("a hook failed", plugin=self.plugin, hook="watch"), exc_info=True)
            raise HookError(self.position, self.plugin, "watch", error) from error

    def _data(self, hook: str, known: PluginData) -> dict[DataKey, bytes]:
        own = {key: payload for (plugin, key), payload in known.items() if plugin == self.plugin}
        return {
            DataKey(self.plugin, key): payload for key, payload in self._call(hook, contents, self.options, own).items()
        }

    def _call(self, hook: str, kind: Callable[[Any], T], *arguments: Any) -> T:
        try:
            return kind(getattr(self.module, hook)(*arguments))
        except SvcdnsError:
            raise
        except Exception as error:
            log.debug(LogLine("a hook failed", plugin=self.plugin, hook=hook), exc_info=True)
            raise HookError(self.position, self.plugin, hook, error) from error


def plugin_files(plans: Iterable[BlockPlan]) -> list[PluginFiles]:
    """Returns the plugins that read files, for each block in the order of the Corefile."""
    out = []
    for block in plans:
        for name, options in block.options.items():
            module = plugins.load(name)
            directives = block.block(name).directives  # none, if the plugin has shared the options of another block
            if directives and hasattr(module, "gather"):
                out.append(PluginFiles(name, module, options, directives[0].position))
    return out


def gather(files: Iterable[PluginFiles], before: PluginData) -> dict[DataKey, bytes]:
    """Calls the hook `gather` of each plugin that reads files, and returns all data. May block. Raises SvcdnsError.

    `before` has the data of the previous Corefile, which a plugin may use again.
    """
    out: dict[DataKey, bytes] = {}
    for one in files:
        out |= one.gather(before)
    return out


async def gather_in_threads(
    calls: BlockingCalls, files: Iterable[PluginFiles], before: PluginData
) -> dict[DataKey, bytes]:
    """Calls `PluginFiles.gather` of all `files` in threads, and returns the data. Raises SvcdnsError.

    Raises BlockedError if the files of one plugin cannot be read within READ_LIMIT seconds.
    """
    out: dict[DataKey, bytes] = {}
    for one in files:
        out |= await calls.run(one.shown, one.gather, before, limit=READ_LIMIT, key=f"gather {one.options}")
    return out


class Refresher:
    """Reads the files of plugins periodically, at the interval that each plugin sets."""

    def __init__(
        self,
        calls: BlockingCalls,
        known: Callable[[], PluginData],
        changed: Callable[[dict[DataKey, bytes]], Awaitable[None]],
        failed: Callable[[SvcdnsError], None],
    ) -> None:
        """`known` returns the data in use. `changed` is awaited with the data that differ from them.

        `failed` is called with each error.
        """
        self._calls, self._known, self._changed, self._failed = calls, known, changed, failed
        self._tasks: list[asyncio.Task[None]] = []
        self._watches: dict[tuple[str, Hashable], asyncio.Task[None]] = {}
        """By plugin and source: the tasks that watch sources of data."""

    def follow(self, files: Iterable[PluginFiles]) -> None:
        """Reads `files` periodically and watches their sources, and no others, from this call on."""
        files = tuple(files)
        self._watch_only({(one.plugin, source): one for one in files for source in one.sources()})
        for task in self._tasks:
            task.cancel()
        distinct: list[PluginFiles] = []
        for one in files:
            if (
                one.is_refreshed and one not in distinct
            ):  # server blocks that import the same snippet have the same files
                distinct.append(one)
        self._tasks = [asyncio.create_task(self._follow(one)) for one in distinct]

    async def stop(self) -> None:
        """Ends all periodic reads and watches. A read that blocks goes on in its thread."""
        tasks = [*self._tasks, *self._watches.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _watch_only(self, wanted: Mapping[tuple[str, Hashable], PluginFiles]) -> None:
        """Starts and ends watches. A source that is watched already goes on being watched."""
        for key in self._watches.keys() - wanted.keys():
            self._watches.pop(key).cancel()
        for key, files in wanted.items():
            if key not in self._watches:
                self._watches[key] = asyncio.create_task(self._watch(files, key[1]))

    async def _watch(self, files: PluginFiles, source: Hashable) -> None:
        async def publish(data: Mapping[str, bytes]) -> None:
            known = self._known()
            fresh = {DataKey(files.plugin, key): payload for key, payload in contents(data).items()}
            changed = {key: payload for key, payload in fresh.items() if known.get(key) != payload}
            if changed:
                await self._changed(changed)

        while True:
            try:
                await files.watch(source, publish)
            except SvcdnsError as error:
                self._failed(error)
                log.error(LogLine("no new data; the data that were received before stay in use", error=error))
            await asyncio.sleep(RETRY)

    async def _follow(self, files: PluginFiles) -> None:
        last_error, interval = "", RETRY
        while True:
            try:
                period = await self._calls.run(files.shown, files.period, key=f"period {files.options}")
                interval = period or IDLE
                if not last_error:
                    await asyncio.sleep(interval)
                fresh = await self._refreshed(files) if period else {}
                last_error = ""
            except SvcdnsError as error:
                self._failed(error)
                if str(error) != last_error:
                    log.error(
                        LogLine("a file cannot be read; the content that was read before stays in use", error=error)
                    )
                last_error = str(error)
                await asyncio.sleep(min(interval, RETRY))
                continue
            if fresh:
                await self._changed(fresh)

    async def _refreshed(self, files: PluginFiles) -> dict[DataKey, bytes]:
        return await self._calls.run(files.shown, files.refresh, self._known(), key=f"refresh {files.options}")
