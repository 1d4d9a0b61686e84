"""The one error of this folder, and the place in a file that it points at."""

from __future__ import annotations

from typing import NamedTuple

from svcdns.cluster.watch_options import SourceError


class Place(NamedTuple):
    """A line of a file, counted from 1; 0 stands for the file or folder as a whole."""

    path: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.line else self.path


class ManifestError(SourceError):
    """A manifest cannot be used; the text is one line `FILE:LINE: what is wrong and what was expected`."""

    def __init__(self, place: Place, text: str) -> None:
        super().__init__(f"{place}: {text}")
        self.place = place
