"""The state folder: what is kept is found again, what is not to be trusted is refused with a reason."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from svcdns.control.state_folder import FILE, StateError, StateFolder
from svcdns.corefile.parser import parse

COREFILE = parse(".:53 {\n whoami\n}\n", "Corefile", environ={})


def test_what_is_kept_is_found(tmp_path: Path) -> None:
    """In a folder that is made; the last one wins, and nothing else is left there."""
    folder = StateFolder(tmp_path / "a" / "b")
    assert folder.last_good() is None
    folder.keep(parse(".:54 {\n whoami\n}\n", "Corefile", environ={}), 1.0)
    folder.keep(COREFILE, 2.0)
    found = StateFolder(tmp_path / "a" / "b").last_good()
    assert found is not None
    assert (found.time, found.corefile) == (2.0, COREFILE)
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [FILE]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "damaged", id="empty"),
        pytest.param(b"x" * 100, "damaged", id="anything"),
        pytest.param(hashlib.sha256(body := msgspec.msgpack.encode(["1"])).digest() + body, "another version", id="another shape"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    """With the file's name."""
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(StateError, match=f"{FILE} .*{reason}"):
        StateFolder(tmp_path).last_good()


def test_a_folder_that_cannot_be_one(tmp_path: Path) -> None:
    """Nothing is written, and why is said."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot write"):
        StateFolder(tmp_path / "file").keep(COREFILE, 0.0)
    with pytest.raises(StateError, match="cannot read"):
        StateFolder(tmp_path / "file").last_good()
