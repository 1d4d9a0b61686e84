"""A change source: the cluster as YAML files and folders describe it, for laptops, CI and reviews.

The first load has to succeed; after it, a broken edit is reported and the last good state stays. Changes are told as differences. How a
cluster is made of manifests is in `cluster`; this module finds files and follows their edits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from watchfiles import awatch

from svcdns.cluster.changes import Begin, Change, Complete, Gone, Kind, Put
from svcdns.cluster.sources.manifests.cluster import Objects, cluster, manifests
from svcdns.cluster.sources.manifests.yaml_nodes import ManifestError, documents
from svcdns.cluster.sources.options import WatchOptions

SUFFIXES = (".yaml", ".yml", ".json")
DEBOUNCE_MS = 100
STEP_MS = 20

Edits = Callable[[tuple[str, ...]], AsyncIterator[Any]]
"""Yields whenever something at one of the paths has changed."""


class ManifestsSource:
    """What `options.manifests` describe. Implements ChangeSource."""

    def __init__(self, options: WatchOptions, *, log: logging.Logger, edits: Edits | None = None) -> None:
        """`edits` tells when to look again; by default the file system does."""
        self._options, self._log = options, log
        self._edits = edits or _edits
        self._objects: Objects = {}
        self._left_out: set[str] = set()

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds whose lists this source completes."""
        wanted = {
            Kind.SERVICE: True,
            Kind.NAMESPACE: True,
            Kind.ENDPOINT_SLICE: self._options.endpoint_slices,
            Kind.POD: self._options.pods,
            Kind.SERVICE_IMPORT: self._options.multicluster,
            Kind.IMPORTED_SLICE: self._options.multicluster,
        }
        return tuple(kind for kind, yes in wanted.items() if yes)

    async def configure(self) -> None:
        """Loads the manifests for the first time. Raises ManifestError."""
        self._objects = self._load()

    async def changes(self) -> AsyncIterator[Change]:
        """All objects as full lists, then the differences that edits make. Ends only when cancelled."""
        told: Objects = self._objects
        for kind in self.kinds:
            yield Begin(kind)
            for (mine, _, _), item in told.items():
                if mine is kind:
                    yield Put(item)
            yield Complete(kind)
        complaint = ""
        async for _ in self._edits(self._options.manifests):
            try:
                now = self._load()
            except ManifestError as error:
                if str(error) != complaint:
                    self._log.error("manifests: %s; the last good state stays", error)
                complaint = str(error)
                continue
            if complaint:
                self._log.info("manifests: good again")
                complaint = ""
            for change in differences(told, now):
                yield change
            told = now

    def _load(self) -> Objects:
        """The objects that the files describe now. Raises ManifestError."""
        described, others = manifests(document for path in _files(self._options.manifests) for document in documents(path))
        if others - self._left_out:
            self._left_out |= others
            self._log.info("manifests: kinds without a place in DNS are left out: %s", ", ".join(sorted(others)))
        return cluster(described, self._options)


def differences(before: Objects, now: Objects) -> list[Change]:
    """The changes that lead from one state to another: new and changed objects first, then those that are gone."""
    out: list[Change] = [Put(item) for key, item in now.items() if before.get(key) != item]
    out += [Gone(*key) for key in before if key not in now]
    return out


def _files(paths: tuple[str, ...]) -> list[Path]:
    """The manifest files at these paths, folders searched in depth, sorted. Raises ManifestError for a path that is not there."""
    out: list[Path] = []
    for text in paths:
        path = Path(text)
        if path.is_dir():
            found = (p for p in path.rglob("*") if p.suffix in SUFFIXES and not any(part.startswith("..") for part in p.parts[len(path.parts) :]))
            out += sorted(p for p in found if p.is_file())
        elif path.exists():
            out.append(path)
        else:
            raise ManifestError(f"{path}: no such file or folder; manifests were expected there")
    return list(dict.fromkeys(out))


async def _edits(paths: tuple[str, ...]) -> AsyncIterator[Any]:
    """Edits as the file system tells them. Files are watched through their folders, as editors put new files in place of old ones."""
    folders = [path for path in paths if Path(path).is_dir()]
    parents = [str(Path(path).parent) for path in paths if not Path(path).is_dir()]
    changed = asyncio.Event()

    async def follow(places: list[str], *, deep: bool) -> None:
        async for _ in awatch(*places, recursive=deep, debounce=DEBOUNCE_MS, step=STEP_MS, watch_filter=None):
            changed.set()

    tasks = [asyncio.create_task(follow(places, deep=deep)) for places, deep in ((folders, True), (parents, False)) if places]
    try:
        while True:
            await changed.wait()
            changed.clear()
            yield None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
