"""Kubeconfigs, which the official client loads in its own process."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from svcdns.cluster.watch_options import SourceError
from svcdns.sources.api.kubeconfig import Loaded, Part, load


def kubeconfig(folder: Path, cluster: dict[str, Any], user: dict[str, Any]) -> str:
    path = folder / "config"
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    body = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [context],
    }
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "c", **body}))
    return str(path)


async def test_the_paths_of_the_files_are_returned(tmp_path: Path) -> None:
    """The caller can then notice changes of these files."""
    for name in ("ca", "token"):
        (tmp_path / name).write_text(f"the {name}")
    path = kubeconfig(
        tmp_path,
        {"server": "https://a:6443", "certificate-authority": "ca", "tls-server-name": "b"},
        {"tokenFile": "token"},
    )
    authority = str(tmp_path / "ca")
    assert await load(path, "") == Loaded(
        host="https://a:6443",
        token="Bearer the token",
        authority=Part(path=authority),
        server_name="b",
        files=(path, str(tmp_path / "token"), authority),
    )


async def test_certificates_in_the_kubeconfig_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The official client writes temporary files, which are deleted before its process ends."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    data = {name: base64.b64encode(name.encode()).decode() for name in ("authority", "certificate", "key")}
    path = kubeconfig(
        tmp_path,
        {"server": "https://a", "certificate-authority-data": data["authority"]},
        {"client-certificate-data": data["certificate"], "client-key-data": data["key"]},
    )
    found = await load(path, "c")
    assert (found.authority, found.certificate, found.key) == (
        Part(text="authority"),
        Part(text="certificate"),
        Part(text="key"),
    )
    assert (found.files, list(temporary.iterdir())) == ((path,), [])


async def test_an_error_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"kubeconfig: .*config: .*other") as raised:
        await load(kubeconfig(tmp_path, {"server": "http://a"}, {}), "other")
    assert "\n" not in str(raised.value)


async def test_a_missing_file(tmp_path: Path) -> None:
    """The Kubernetes client is not started."""
    with pytest.raises(SourceError, match="no such file"):
        await load(str(tmp_path / "config"), "")


async def test_loading_has_a_time_limit(tmp_path: Path) -> None:
    """A credential plugin may hang."""
    path = tmp_path / "kubeconfig"
    path.write_text("{}")
    with pytest.raises(SourceError, match=r"kubeconfig: .*did not end within 0.001 s"):
        await load(str(path), "", 0.001)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "it is empty", id="empty"),
        pytest.param("just text", "it is not a kubeconfig: str at the top level", id="text"),
        pytest.param("- a", "it is not a kubeconfig: list at the top level", id="list"),
        pytest.param(
            "{apiVersion: v1, kind: Pod}", "it is not a kubeconfig: kind is 'Pod', 'Config' was expected", id="kind"
        ),
        pytest.param(
            "{apiVersion: v1, kind: Config}",
            "it has no current-context, and the option kubeconfig names no context",
            id="context",
        ),
        pytest.param("{a: [", "it is not YAML: line 1: ", id="yaml"),
        pytest.param("\xff", "it is not a valid kubeconfig (UnicodeDecodeError: ", id="octets"),
        pytest.param(
            "{kind: Config, current-context: a, contexts: 5}", "it is not a valid kubeconfig (TypeError", id="types"
        ),
    ],
)
async def test_text_of_another_kind_is_no_kubeconfig(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "config"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SourceError) as raised:
        await load(str(path), "")
    assert str(raised.value).startswith(f"kubeconfig: {path}: {reason}")
    assert "\n" not in str(raised.value)


async def test_a_folder_is_no_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="it is a folder"):
        await load(str(tmp_path), "")
