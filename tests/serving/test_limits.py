"""Memory of the answer tables, by the container's limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from svcdns.serving.limits import UNLIMITED, memory_limit, table_budget


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        pytest.param({"memory.max": "178257920\n"}, 178257920, id="version 2"),
        pytest.param({"memory.max": "max\n"}, None, id="version 2 without a limit"),
        pytest.param({"memory/memory.limit_in_bytes": "178257920\n"}, 178257920, id="version 1"),
        pytest.param({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None, id="version 1 without a limit"),
        pytest.param({}, None, id="no control groups"),
    ],
)
def test_the_limit(files: dict[str, str], limit: int | None, tmp_path: Path) -> None:
    """As the kernel shows it inside the container."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory_limit(tmp_path) == limit


def test_workers_share_an_eighth() -> None:
    """And never more than without a limit."""
    assert table_budget(None, 3) == UNLIMITED
    assert table_budget(160 << 20, 1) == 20 << 20
    assert table_budget(160 << 20, 2) == 10 << 20
    assert table_budget(1 << 40, 1) == UNLIMITED
