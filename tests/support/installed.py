"""A copy of the program in a server's folder, which tests can change and replace."""

from __future__ import annotations

import shutil
from pathlib import Path

import svcdns

PACKAGE = Path(svcdns.__file__).parent


def install(folder: Path, **edits: tuple[str, str, str]) -> None:
    """Puts the program into a server's working directory: `python -m svcdns` finds it there first.

    Each edit is a file, and a text in it with its replacement. Folders without an edit are links to those of the
    program under test, so that its compiled modules are used.
    """
    new = folder / "new"
    new.mkdir()
    edited = {file.partition("/")[0] for file, _, _ in edits.values()}
    for part in PACKAGE.iterdir():
        if part.is_file():
            shutil.copy2(part, new)
        elif part.name in edited:
            shutil.copytree(part, new / part.name)
        elif part.name != "__pycache__":
            (new / part.name).symlink_to(part)
    for file, before, after in edits.values():
        path = new / file
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))
    if (folder / "svcdns").exists():
        (folder / "svcdns").rename(folder / "old")
        shutil.rmtree(folder / "old")
    new.rename(folder / "svcdns")


def version(text: str) -> tuple[str, str, str]:
    """Returns the edit of the sources that sets the version to `text`."""
    return ("__init__.py", f'"{svcdns.__version__}"', f'"{text}"')
