"""Requests to the HTTP APIs of providers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from svcdns.zones.hosted_zone_http import RETRIES, JsonApi, prepare, readable
from svcdns.zones.hosted_zone_refresh import Redactor
from svcdns.zones.hosted_zones import ProviderError
from tests.support.http_session import Session


def api(*replies: tuple[int, Any] | Exception) -> JsonApi:
    return JsonApi(Session(*replies), Redactor(["sekret-key"]), lambda status, value: f"{status} {value}", (KeyError,))


def test_an_object_is_returned() -> None:
    assert api((200, {"a": 1})).get("https://x", {}) == {"a": 1}


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        pytest.param((404, {"why": "sekret-key"}), "404 {'why': '...'}", id="a status"),
        pytest.param((200, [1]), r"200 \[1\]", id="no object"),
        pytest.param((502, ValueError("no JSON")), "502 None", id="no JSON"),
        pytest.param(KeyError("sekret-key"), "'...'", id="an exception"),
    ],
)
def test_failures(reply: Any, expected: str) -> None:
    with pytest.raises(ProviderError, match=f"^{expected}$"):
        api(reply).get("https://x", {})


def test_requests_are_repeated() -> None:
    mounted: dict[str, Any] = {}

    class Adapters:
        def mount(self, prefix: str, adapter: Any) -> None:
            mounted[prefix] = adapter

    prepare(Adapters())
    assert mounted["https://"].max_retries.total == RETRIES


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match=r"no such file or directory$"):
        readable(str(tmp_path / "no"))
    (tmp_path / "file").write_bytes(b"content")
    assert readable(str(tmp_path / "file")) == b"content"
