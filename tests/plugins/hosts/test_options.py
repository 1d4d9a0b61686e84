"""The options of *hosts* (docs/behaviour/plugins.md#hosts), and reading the hosts file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from svcdns.corefile.errors import CorefileError
from svcdns.plugins.hosts import gather, period, refresh
from svcdns.plugins.hosts.options import decode
from tests.support import world


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        pytest.param(
            "hosts", {"path": "/etc/hosts", "named": False, "zones": (".",), "ttl": 3600, "reload": 5.0}, id="defaults"
        ),
        pytest.param(
            "hosts h a.b C.D", {"path": "/root/h", "named": True, "zones": ("a.b.", "c.d.")}, id="file and zones"
        ),
        pytest.param("hosts /x/h", {"path": "/x/h"}, id="absolute"),
        pytest.param("hosts {\n 10.0.0.1  a   b # c\n ::1 d\n}", {"inline": ("10.0.0.1 a b", "::1 d")}, id="entries"),
        pytest.param(
            "hosts {\n ttl 65535\n no_reverse\n reload 0\n}", {"ttl": 65535, "reverse": False, "reload": 0.0}, id="rest"
        ),
        pytest.param(
            "hosts {\n fallthrough\n fallthrough_unsupported\n}",
            {"fallthrough": (".",), "fallthrough_unsupported": True},
            id="fallthrough",
        ),
    ],
)
def test_options(text: str, fields: dict[str, Any]) -> None:
    options = world.options("hosts", text, root="/root")
    assert {name: getattr(options, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("hosts\nhosts", "3:1 plugin/hosts: this plugin can only be used once", id="twice"),
        pytest.param("hosts {\n ttl 0\n}", "3:6 0 is out of range; 1 to 65535", id="ttl"),
        pytest.param("hosts {\n ttl\n}", "3:2 Wrong argument count", id="no ttl"),
        pytest.param("hosts {\n reload 5\n}", "3:9 '5' is not a duration", id="reload"),
        pytest.param("hosts {\n reload -1s\n}", "3:9 reload '-1s' is not at least 0", id="negative"),
        pytest.param(
            "hosts {\n fallthrough_unsupported\n}", "2:1 'fallthrough_unsupported' needs 'fallthrough'", id="alone"
        ),
        pytest.param(
            "hosts {\n fallthrough\n tll 3\n}", "4:2 unknown property 'tll' (did you mean 'ttl'?)", id="unknown"
        ),
        pytest.param(
            "hosts {\n fallthrough\n ::1 a\n}",
            "4:2 unknown property '::1'; entries have to come before 'fallthrough'",
            id="an entry too late",
        ),
    ],
)
def test_rejected_directives(text: str, error: str) -> None:
    assert world.rejection("hosts", text).startswith(error)


def test_a_missing_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A missing file is a warning, and is read once it exists."""
    path = tmp_path / "hosts"
    options = world.options("hosts", f"hosts {path}")
    assert gather(options, {}) == {}
    assert f"File does not exist: {path}" in caplog.text
    assert refresh(options, {}) == {}
    path.write_text("10.0.0.1 a")
    assert list(refresh(options, {})) == [options.data_key]


def test_paths_without_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A directory and an invalid entry are warnings. A path that cannot be read is an error."""
    assert gather(world.options("hosts", f"hosts {tmp_path} {{\n tll 5\n}}"), {}) == {}
    assert "is a directory" in caplog.text
    assert 'is ignored position=Corefile:2 line="tll 5"' in caplog.text
    (tmp_path / "f").write_text("")
    with pytest.raises(CorefileError, match="unable to access hosts file"):
        gather(world.options("hosts", f"hosts {tmp_path}/f/hosts"), {})


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """A change of the modification time counts. If the file cannot be read, the previous content stays."""
    path = tmp_path / "hosts"
    path.write_text("10.0.0.1 a")
    os.utime(path, (1000, 1000))
    options = world.options("hosts", f"hosts {path}")
    assert period(options) == 5.0
    known = gather(options, {})
    assert refresh(options, known) == {}
    path.write_text("10.0.0.2 a")
    os.utime(path, (1000, 1000))
    assert refresh(options, known) == {}
    os.utime(path, (1001, 1001))
    (content,) = refresh(options, known).values()
    changed, table = decode(content)
    assert changed == 1001
    assert table.addresses(b"\x01a\0", 1) == [bytes((10, 0, 0, 2))]
    assert refresh(world.options("hosts", f"hosts {path} {{\n reload 0\n}}"), known) == {}
    path.unlink()
    assert refresh(options, known) == {}


def test_the_data_key_has_the_zones() -> None:
    """Blocks with the same hosts file, but different zones or options, have separate tables."""
    keys = {world.options("hosts", text).data_key for text in ("hosts h", "hosts h a.b", "hosts h {\n no_reverse\n}")}
    assert len(keys) == 3
