"""The error that this package raises, with the file and the line."""

from __future__ import annotations

from typing import NamedTuple

from svcdns.cluster.watch_options import SourceError


class FilePosition(NamedTuple):
    """A line of a file, counted from 1. Line 0 means the whole file or folder."""

    path: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.line else self.path


class ManifestError(SourceError):
    """A manifest cannot be used.

    `str(error)` is one line: `FILE:LINE: what is wrong and what was expected`.
    """

    def __init__(self, position: FilePosition, text: str) -> None:
        super().__init__(f"{position}: {text}")
        self.position = position
