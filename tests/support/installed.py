"""A copy of svcdns in a server's folder, which tests can change and replace."""

from __future__ import annotations

import shutil
from pathlib import Path

import svcdns

PACKAGE = Path(svcdns.__file__).parent


def install(folder: Path, **edits: tuple[str, str, str]) -> None:
    """Puts the program into a server's working directory, where `python -m svcdns` finds it first.

    An edit is a file, a text in the file, and its replacement. Folders without an edit are links to the tested program,
    so that its compiled modules are used.
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
    """Returns the edit that sets the version to `text`."""
    return ("__init__.py", f'"{svcdns.__version__}"', f'"{text}"')
