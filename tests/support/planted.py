"""Modules in a folder that must not be imported. If such a module is imported, it leaves a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Final

STANDARD: Final = (
    "__future__", "_socket", "argparse", "array", "asyncio", "contextlib", "ctypes", "json", "logging", "pathlib",
    "queue", "re", "runpy", "select",
    "selectors", "signal", "socket", "ssl", "struct", "subprocess", "tempfile", "threading", "time", "types", "typing",
)  # fmt: skip
"""Names of the standard library."""
INSTALLED: Final = ("aiohttp", "kubernetes", "msgspec", "sitecustomize", "svcdns", "usercustomize", "yaml")
"""Names that are found elsewhere, or nowhere."""


class Planted:
    """A folder of modules that record when they are imported."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        """Writes a Python file for each name. If the file is imported, it leaves a trace."""
        folder.mkdir(exist_ok=True)
        self.folder, self._trace = folder, folder / "trace"
        for name in names:
            (folder / f"{name}.py").write_text(
                f"with open({str(self._trace)!r}, 'a') as trace:\n    trace.write('{name} ')\n"
            )

    @property
    def imported(self) -> str:
        """Returns the names of the planted modules that have been imported."""
        return self._trace.read_text() if self._trace.exists() else ""
