"""Which files the option `manifests` names, and which folders to watch so that no change of them is missed.

Files are found, not read. The rules: a file named in the option counts whatever its suffix; a folder counts with everything below it
that ends in .yaml, .yml or .json, in the order of the paths; names that begin with a dot are passed over, as editors and the `..data`
folder of a mounted ConfigMap use them; symbolic links are followed; a file reached twice counts once.

Watched are folders, not files: an editor that writes a new file and renames it over the old one, and a ConfigMap whose
symbolic link is swapped, leave a watched file behind that nobody writes to any more.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from svcdns.sources.manifests.errors import ManifestError, Place

SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
MOST_LINKS: Final = 40
"""Symbolic links that are followed for one path, as Linux does."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to read: `path` as the user would name it, and a stamp that differs once its content may differ."""

    path: str
    stamp: tuple[int, ...]


@dataclass(slots=True)
class FoundFiles:
    """Files in reading order, the folders whose entries decide about them, and the first path that is not there."""

    files: list[FoundFile] = field(default_factory=list)
    directories: set[str] = field(default_factory=set)
    missing: ManifestError | None = None
    _seen: set[str] = field(default_factory=set)

    def add(self, path: Path) -> None:
        """Takes in a file or a folder with all below it; one that is not there is noted in `missing`."""
        self._watch_links(path)
        real = os.path.realpath(path)
        if real in self._seen:
            return
        self._seen.add(real)
        try:
            if path.is_dir():
                self._add_folder(path, real)
            else:
                status = path.stat()
                self.files.append(
                    FoundFile(str(path), (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
                )
        except OSError as error:
            self.missing = self.missing or ManifestError(Place(str(path)), f"{error.strerror}; a file or folder of manifests was expected")

    def _add_folder(self, folder: Path, real: str) -> None:
        self.directories.add(real)
        for entry in sorted(folder.iterdir()):
            if not entry.name.startswith(".") and (entry.suffix.lower() in SUFFIXES or entry.is_dir()):
                self.add(entry)

    def _watch_links(self, path: Path) -> None:
        """The folder of the path, and of each symbolic link on the way to where it leads; where one is missing, the nearest above it."""
        waiting = [Path(os.path.abspath(path))]  # noqa: PTH100  resolve() would follow the links that are looked for
        for _ in range(MOST_LINKS):
            if not waiting:
                return
            link = waiting.pop()
            self.directories.add(os.path.realpath(_nearest_folder(link.parent)))
            for part in (link, *link.parents):
                if part.is_symlink():
                    self.directories.add(os.path.realpath(_nearest_folder(part.parent)))
                    target = Path(os.path.normpath(part.parent / part.readlink()))
                    waiting.append(target / link.relative_to(part))
                    break


def _nearest_folder(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def find(paths: tuple[str, ...]) -> FoundFiles:
    """Everything that the paths name. Does not raise for what is missing, so that the folders to watch are known all the same."""
    found = FoundFiles()
    for path in paths:
        found.add(Path(path))
    return found
