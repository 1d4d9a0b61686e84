"""Which Corefile is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from svcdns.corefile.load import CorefileMissingError, load


def test_without_a_file_there_is_a_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """whoami and log on the default port, also where the file holds no block."""
    monkeypatch.chdir(tmp_path)
    for text in (None, "# nothing\n"):
        if text is not None:
            (tmp_path / "Corefile").write_text(text)
        found = load(None, environ={}, default_port=5300)
        assert [d.name.text for d in found.blocks[0].directives] == ["whoami", "log"]
        assert found.blocks[0].keys[0].port == 5300


def test_the_corefile_of_the_working_directory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As CoreDNS does."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Corefile").write_text(". {\n errors\n}\n")
    assert load(None, environ={}).blocks[0].directives[0].name.text == "errors"


def test_a_named_file_has_to_be_there(tmp_path: Path) -> None:
    """The error names it."""
    with pytest.raises(CorefileMissingError, match="no such file or directory"):
        load(str(tmp_path / "none"), environ={})
