"""Finds the files of the option `manifests`, and the folders to watch for their changes. No file is read.

Rules:

1. A file that the option names is used, whatever its suffix. In a folder, all files are used that end in .yaml, .yml or
   .json, or are named Kustomization.
2. Names that begin with a dot are ignored, and so are files and folders that match a pattern of `exclude`.
3. Symbolic links are followed. A file that is found twice is used once.
4. The path `-` is standard input, which must be a file.
5. Folders are watched, not files, because editors and ConfigMaps replace files.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, NamedTuple

from svcdns.sources.manifests.errors import FilePosition, ManifestError

SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})
STANDARD_INPUT: Final = 0
"""The descriptor of standard input."""
MAX_LINKS: Final = 40
"""The most symbolic links that are followed for one path, as in Linux."""


class FileStamp(NamedTuple):
    """Device, inode, size and times of a file. If they have changed, the content may have changed."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A file to read, and its stamp.

    `path` begins with the path that the option `manifests` has.
    """

    path: str
    stamp: FileStamp


@dataclass(slots=True)
class FoundFiles:
    """The files in reading order, the folders to watch, and the error of the first path that does not exist."""

    files: list[ManifestFile] = field(default_factory=list)
    directories: set[str] = field(default_factory=set)
    missing: ManifestError | None = None
    exclude: tuple[str, ...] = ()
    _top: Path | None = None
    _seen: set[str] = field(default_factory=set)

    def add_standard_input(self) -> None:
        """Adds standard input (`-`) to the files. If it is not a regular file, stores the error in `missing`."""
        status = os.fstat(STANDARD_INPUT)
        if stat.S_ISREG(status.st_mode):
            self.files.append(ManifestFile("-", _stamp(status)))
        else:
            self.missing = self.missing or ManifestError(
                FilePosition("-"), "standard input is read only if `manifests -` is in the Corefile at the start"
            )

    def add(self, path: Path) -> None:
        """Adds a file, or everything below a folder. If the path does not exist, stores the error in `missing`."""
        self._watch_links(path)
        real = os.path.realpath(path)
        if real in self._seen:
            return
        self._seen.add(real)
        try:
            if path.is_dir():
                self._add_folder(path, real)
            else:
                self.files.append(ManifestFile(str(path), _stamp(path.stat())))
        except OSError as error:
            self.missing = self.missing or ManifestError(
                FilePosition(str(path)), f"{error.strerror}; a file or folder of manifests was expected"
            )

    def _add_folder(self, folder: Path, real: str) -> None:
        self.directories.add(real)
        top = self._top
        self._top = top or folder
        for entry in sorted(folder.iterdir()):
            is_read = entry.suffix.lower() in SUFFIXES or entry.name == "Kustomization" or entry.is_dir()
            if is_read and not entry.name.startswith(".") and not self._is_excluded(entry):
                self.add(entry)
        self._top = top

    def _is_excluded(self, entry: Path) -> bool:
        if not self.exclude or self._top is None:
            return False
        below = str(entry.relative_to(self._top))
        return any(fnmatchcase(name, pattern) for pattern in self.exclude for name in (entry.name, below))

    def _watch_links(self, path: Path) -> None:
        """Adds the folder of a path to `directories`, and the folder of each symbolic link on the way to its target.

        If a folder does not exist, adds the nearest existing folder above it.
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


def _stamp(status: os.stat_result) -> FileStamp:
    return FileStamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _nearest_folder(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def find(paths: tuple[str, ...], exclude: tuple[str, ...] = ()) -> FoundFiles:
    """Returns the files and folders of all paths.

    A missing path raises no exception: the error is in the result.
    """
    found = FoundFiles(exclude=exclude)
    for path in paths:
        if path == "-":
            found.add_standard_input()
        else:
            found.add(Path(path))
    return found
