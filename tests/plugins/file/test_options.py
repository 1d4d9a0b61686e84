"""The options of *file* (docs/behaviour/plugins.md#file)."""

from __future__ import annotations

import pytest

from tests.support import world


def test_reads_options() -> None:
    """Paths are relative to the folder of *root*."""
    text = "file a.zone x.y {\n reload 10s\n reload_by_mtime\n fallthrough z.x.y\n}\nfile b.zone {\n reload 0\n}"
    first, second = world.options("file", text, zones="example.org", root="/zones").files
    assert (first.path, first.zones, first.reload, first.reload_by_mtime) == ("/zones/a.zone", ("x.y.",), 10.0, True)
    assert first.fallthrough == ("z.x.y.",)
    assert (second.path, second.zones, second.reload, second.fallthrough) == (
        "/zones/b.zone",
        ("example.org.",),
        0.0,
        (),
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("file", "2:1 Wrong argument count", id="no file"),
        pytest.param("file a {\n reload 10\n}", "3:9 '10' is not a duration", id="duration"),
        pytest.param("file a {\n relod 10s\n}", "3:2 unknown property 'relod' (did you mean 'reload'?)", id="unknown"),
    ],
)
def test_rejected_directives(text: str, error: str) -> None:
    assert world.rejection("file", text).startswith(error)
