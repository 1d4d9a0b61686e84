"""Watching a real file system. Every way to edit a file is reported.

No change after the first report of the watcher is missed.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from svcdns.sources.manifests.file_watch import folder_changes


def write(folder: Path) -> None:
    """Writes a manifest in place."""
    (folder / "a.yaml").write_text("b")


def rename(folder: Path) -> None:
    """Replaces the manifest by renaming a new file over it."""
    (folder / "new").write_text("b")
    (folder / "new").rename(folder / "a.yaml")


def create(folder: Path) -> None:
    (folder / "b.yaml").write_text("b")


def delete(folder: Path) -> None:
    (folder / "a.yaml").unlink()


def swap(folder: Path) -> None:
    """Changes the target of a symbolic link."""
    (folder / "new").symlink_to("a.yaml")
    (folder / "new").rename(folder / "link")


def make_folder(folder: Path) -> None:
    (folder / "sub").mkdir()


@pytest.mark.parametrize("edit", [write, rename, create, delete, swap, make_folder])
async def test_edits(tmp_path: Path, edit: Callable[[Path], None]) -> None:
    """After the first yield, the folder is watched, and every edit is reported."""
    (tmp_path / "a.yaml").write_text("a")
    async with aclosing(folder_changes(frozenset({str(tmp_path)}))) as changes:
        await anext(changes)
        edit(tmp_path)
        reported = asyncio.ensure_future(anext(changes))
        await asyncio.wait([reported], timeout=10)
        assert reported.done()


async def test_closing_before_any_change(tmp_path: Path) -> None:
    async with aclosing(folder_changes(frozenset({str(tmp_path)}))) as changes:
        await anext(changes)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_missing_folder(tmp_path: Path) -> None:
    """FileNotFoundError is raised, so that the caller finds the folders again."""
    async with aclosing(folder_changes(frozenset({os.fspath(tmp_path / "no")}))) as changes:
        with pytest.raises(FileNotFoundError):
            await anext(changes)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("Error creating recommended watcher")], ids=repr
)
async def test_without_inotify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """If the kernel refuses to watch the folders, they are polled."""

    async def awatch(*folders: str, force_polling: bool | None, **_: object) -> AsyncGenerator[set[str], None]:
        if not force_polling:
            raise error
        await asyncio.sleep(0)
        yield set(folders)

    monkeypatch.setattr("svcdns.sources.manifests.file_watch.awatch", awatch)
    async with aclosing(folder_changes(frozenset({str(tmp_path)}))) as changes:
        assert [None async for _ in changes] == [None, None]
