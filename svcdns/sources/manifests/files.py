"""Finds the files of the option `manifests`, and the folders to watch so that no change of the files is missed.

It reads no file. Rules:

1. A file that the option names is used, whatever its suffix. A folder stands for every file below it that ends in
   .yaml, .yml or .json, in the order of the paths.
2. Names that begin with a dot are ignored: editors use them, and so does a mounted ConfigMap (`..data`).
3. Symbolic links are followed, and a file that is found twice is used once.
4. Folders are watched, not files. An editor replaces a file by a new one, and a ConfigMap replaces a symbolic link. A
   watch of the old file would report no later change.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from svcdns.sources.manifests.errors import FilePosition, ManifestError

SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
MAX_LINKS: Final = 40
"""The most symbolic links that are followed for one path, as in Linux."""


class FileStamp(NamedTuple):
    """The stamp of a file: a different value means that its content may have changed."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A file to read: its path, beginning as the option has it, and its stamp."""

    path: str
    stamp: FileStamp


@dataclass(slots=True)
class FoundFiles:
    """The files in reading order, the folders to watch, and the error of the first path that does not exist."""

    files: list[ManifestFile] = field(default_factory=list)
    directories: set[str] = field(default_factory=set)
    missing: ManifestError | None = None
    _seen: set[str] = field(default_factory=set)

    def add(self, path: Path) -> None:
        """Adds a file, or everything below a folder. If the path does not exist, the error is stored in `missing`."""
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
                stamp = FileStamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                self.files.append(ManifestFile(str(path), stamp))
        except OSError as error:
            self.missing = self.missing or ManifestError(
                FilePosition(str(path)), f"{error.strerror}; a file or folder of manifests was expected"
            )

    def _add_folder(self, folder: Path, real: str) -> None:
        self.directories.add(real)
        for entry in sorted(folder.iterdir()):
            if not entry.name.startswith(".") and (entry.suffix.lower() in SUFFIXES or entry.is_dir()):
                self.add(entry)

    def _watch_links(self, path: Path) -> None:
        """Adds to `directories` the folder of a path, and of each symbolic link on the way to its target.

        For a folder that does not exist, the nearest existing folder above it is added.
        """
        waiting = [Path(os.path.abspath(path))]  # noqa: PTH100  resolve() would follow the links
        for _ in range(MAX_LINKS):
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
    """Finds the files and folders of all paths.

    It raises nothing for a missing path, so that the caller knows the folders to watch.
    """
    found = FoundFiles()
    for path in paths:
        found.add(Path(path))
    return found
