"""Finding and reading the Corefile."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from svcdns.corefile.blocks import Corefile
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.load import CorefileMissingError, load


def test_without_a_file_there_is_a_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """*whoami* and *log* are served on the default port, also if the Corefile has no server block."""
    monkeypatch.chdir(tmp_path)
    for text in (None, "# nothing\n"):
        if text is not None:
            (tmp_path / "Corefile").write_text(text)
        found = load(None, environ={}, default_port=5300)
        assert [d.name.text for d in found.blocks[0].directives] == ["whoami", "log"]
        assert found.blocks[0].keys[0].port == 5300


def test_the_corefile_of_the_working_directory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Corefile").write_text(". {\n errors\n}\n")
    assert load(None, environ={}).blocks[0].directives[0].name.text == "errors"


def test_a_named_file_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(CorefileMissingError, match="no such file or directory"):
        load(str(tmp_path / "none"), environ={})


def test_comments_may_have_octets_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "more").write_bytes(b"log # caf\xe9\n")
    path = tmp_path / "Corefile"
    path.write_bytes(b"# caf\xe9\n. {\n import more\n whoami # b\xf6se\n}\n")
    assert [one.name.text for one in load(str(path), environ={}).blocks[0].directives] == ["log", "whoami"]


def test_errors_of_different_texts_differ(tmp_path: Path) -> None:
    """If the file changes but the error stays the same, the new error must still be reported."""
    path, found = tmp_path / "Corefile", set()
    for text in ("{ # one", "{ # other", "{ # one"):
        path.write_text(text)
        with pytest.raises(CorefileError) as raised:
            load(str(path), environ={})
        found.add(raised.value.content)
    assert len(found - {""}) == 2


@pytest.mark.parametrize("text", ["", "# only a comment\n"])
def test_a_file_without_a_block_has_a_warning(tmp_path: Path, text: str) -> None:
    path = tmp_path / "Corefile"
    path.write_text(text)
    corefile = load(str(path), environ={}, default_port=5300)
    assert [one.name.text for one in corefile.blocks[0].directives] == ["whoami", "log"]
    [line] = corefile.warnings
    assert line.startswith(f"{path}:1:1 - the Corefile has no server block: ")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(corefile), type=Corefile) == corefile
