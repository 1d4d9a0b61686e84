"""Files that are replaced as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from svcdns.process import atomic_file
from svcdns.process.atomic_file import replace_file


def test_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    for content in (b"one", b"two"):
        replace_file(path, content)
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    replace_file(path, b"one")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic_file.os, "fsync", full)  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"two")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"one"
