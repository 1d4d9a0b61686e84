"""The options of *status*."""

from __future__ import annotations

import pytest

from svcdns.plugins.status import DEFAULT, Options, StatusPlugin
from tests.support import world


@pytest.mark.parametrize(
    ("text", "address"),
    [("status", DEFAULT), ("status localhost:9000", ("localhost", 9000)), ("status :9000", ("", 9000))],
)
def test_reads(text: str, address: tuple[str, int]) -> None:
    found = world.options("status", text)
    assert found == Options(address)
    page = StatusPlugin.settings(found).page
    assert page is not None
    assert (page.path, page.address) == ("/status/", address)


@pytest.mark.parametrize("text", ["status a:1 b:2", "status {\n x\n}", "status\nstatus", "status nowhere"])
def test_rejects(text: str) -> None:
    assert world.rejection("status", text)
