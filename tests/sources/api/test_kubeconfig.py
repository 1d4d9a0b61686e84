"""Kubeconfigs, read by the client in a process of its own."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from svcdns.cluster.watch_options import SourceError
from svcdns.sources.api.kubeconfig import Found, Part, ask


def written(folder: Path, cluster: dict[str, Any], user: dict[str, Any]) -> str:
    """A kubeconfig of one context."""
    path = folder / "config"
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    body = {"clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": user}], "contexts": [context]}
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "c", **body}))
    return str(path)


async def test_files_stay_where_they_are(tmp_path: Path) -> None:
    """And are named, as they may change."""
    for name in ("ca", "token"):
        (tmp_path / name).write_text(f"the {name}")
    path = written(tmp_path, {"server": "https://a:6443", "certificate-authority": "ca", "tls-server-name": "b"}, {"tokenFile": "token"})
    authority = str(tmp_path / "ca")
    assert await ask(path, "") == Found(
        host="https://a:6443",
        token="Bearer the token",
        authority=Part(path=authority),
        server_name="b",
        files=(path, str(tmp_path / "token"), authority),
    )


async def test_what_is_written_in_it_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's files are gone with its process."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    data = {name: base64.b64encode(name.encode()).decode() for name in ("authority", "certificate", "key")}
    path = written(
        tmp_path,
        {"server": "https://a", "certificate-authority-data": data["authority"]},
        {"client-certificate-data": data["certificate"], "client-key-data": data["key"]},
    )
    found = await ask(path, "c")
    assert (found.authority, found.certificate, found.key) == (Part(text="authority"), Part(text="certificate"), Part(text="key"))
    assert (found.files, list(temporary.iterdir())) == ((path,), [])


async def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    """That names the file."""
    with pytest.raises(SourceError, match=r"kubeconfig: .*config: .*other") as raised:
        await ask(written(tmp_path, {"server": "http://a"}, {}), "other")
    assert "\n" not in str(raised.value)


async def test_a_missing_file(tmp_path: Path) -> None:
    """Is said without asking the client."""
    with pytest.raises(SourceError, match="no such file"):
        await ask(str(tmp_path / "config"), "")


async def test_a_reader_that_does_not_end_is_not_waited_for(tmp_path: Path) -> None:
    """An exec plugin may hang, and all watches wait for it."""
    path = tmp_path / "kubeconfig"
    path.write_text("{}")
    with pytest.raises(SourceError, match=r"kubeconfig: .*did not end within 0.001 s"):
        await ask(str(path), "", 0.001)
