"""The options of *admin*."""

from __future__ import annotations

import pytest

from svcdns.plugins.admin import DEFAULT, MAX_PATH, Admin, Options
from tests.support import world


@pytest.mark.parametrize(
    ("text", "path"),
    [
        pytest.param("admin", DEFAULT, id="default"),
        pytest.param("admin /tmp/a.sock", "/tmp/a.sock", id="absolute"),
        pytest.param("admin a.sock", "/etc/svcdns/a.sock", id="below the root"),
    ],
)
def test_reads(text: str, path: str) -> None:
    found = world.options("admin", text, root="/etc/svcdns")
    assert found == Options(path)
    page = Admin.settings(found).page
    assert page is not None
    assert page.address == (f"unix:{path}", 0)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("admin a b", "admin"),
        ("admin {\n x\n}", "admin"),
        ("admin\nadmin", "admin"),
        (f"admin /{'x' * MAX_PATH}", "the path of the socket has more than 92 octets"),
    ],
)
def test_rejects(text: str, error: str) -> None:
    assert error in world.rejection("admin", text)
