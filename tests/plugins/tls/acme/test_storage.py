"""The files of a certificate."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from svcdns.plugins.tls.acme.storage import Storage, StorageError
from svcdns.plugins.tls.options import Acme
from svcdns.tls.material import Material, split
from tests.support.certificates import authority, pair

MATERIAL = Material(*pair())


def storage(folder: Path, *domains: str) -> Storage:
    return Storage(Acme(domains or ("a.example",), storage=str(folder / "acme")))


def test_a_certificate_is_kept(tmp_path: Path) -> None:
    """Only the owner can read the files."""
    one = storage(tmp_path)
    assert one.certificate() == Material()
    one.save(MATERIAL)
    kept = storage(tmp_path).certificate()
    assert (split(kept.certificates), kept.key.split()) == (split(MATERIAL.certificates), MATERIAL.key.split())
    one.save_account_key(b"key")
    assert one.account_key() == b"key"
    files = [one.path, one.account]
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o600, 0o600]
    assert stat.S_IMODE(one.folder.stat().st_mode) == 0o700
    assert sorted(one.folder.iterdir()) == sorted(files), "no other file is left"


def test_each_certificate_has_its_own_file(tmp_path: Path) -> None:
    """Names of files come from the first domain and the URL, without characters that a path must not have."""
    one, other = storage(tmp_path, "*.a.example"), storage(tmp_path, "*.a.example", "b.example")
    assert one.path != other.path
    assert one.path.name.startswith("_.a.example-")
    assert Storage(Acme(("a",), ca="https://x/../../etc")).folder.name.startswith("x-..-..-etc-")
    assert one.account != Storage(Acme(("*.a.example",), "a@b", storage=str(tmp_path / "acme"))).account


@pytest.mark.parametrize(
    ("content", "error"),
    [
        pytest.param(b"x", "there is no certificate", id="nothing in it"),
        pytest.param(MATERIAL.certificates, "cannot be used", id="no key"),
        pytest.param(MATERIAL.certificates + authority().pair("a").key, "key values mismatch", id="another key"),
        pytest.param(MATERIAL.certificates[:200] + MATERIAL.key, "there is no certificate", id="cut off"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, content: bytes, error: str) -> None:
    one = storage(tmp_path)
    one.folder.mkdir(parents=True)
    one.path.write_bytes(content)
    with pytest.raises(StorageError, match=f"{one.path.name}.*{error}") as raised:
        one.certificate()
    assert "PRIVATE" not in str(raised.value)


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "acme").write_text("a file")
    one = storage(tmp_path)
    for call in (one.lock, one.certificate, lambda: one.save(MATERIAL)):
        with pytest.raises(StorageError, match=f"cannot (read|write) {tmp_path}/acme/.*(file exists|not a directory)"):
            call()


def test_one_process_has_the_lock(tmp_path: Path) -> None:
    first = storage(tmp_path).lock()
    assert first is not None
    assert storage(tmp_path).lock() is None
    other = storage(tmp_path, "b.example").lock()
    assert other is not None
    os.close(first)
    again = storage(tmp_path).lock()
    assert again is not None
    os.close(again)
    os.close(other)
