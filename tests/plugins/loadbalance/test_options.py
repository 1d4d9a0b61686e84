"""The options of *loadbalance* (docs/behaviour/plugins.md#loadbalance), and its weight file."""

from __future__ import annotations

from pathlib import Path

import pytest

from svcdns.corefile.errors import CorefileError
from svcdns.plugin_api.networks import Network
from svcdns.plugins.loadbalance import gather, period, refresh
from svcdns.plugins.loadbalance.options import WeightFileError, decode, read
from tests.support import world


@pytest.mark.parametrize(
    ("text", "path", "reload", "preferred"),
    [
        pytest.param("loadbalance", "", 30.0, "", id="default"),
        pytest.param("loadbalance round_robin", "", 30.0, "", id="round robin"),
        pytest.param(
            "loadbalance {\n prefer 10.0.0.0/8 ::/0\n prefer ::1/128\n}",
            "",
            30.0,
            "10.0.0.0/8 ::/0 ::1/128",
            id="prefer",
        ),
        pytest.param("loadbalance weighted w", "/root/w", 30.0, "", id="weighted"),
        pytest.param("loadbalance weighted /w {\n reload 0\n}", "/w", 0.0, "", id="never again"),
        pytest.param(
            "loadbalance {\n prefer ::/0\n}\nloadbalance weighted /w", "/w", 30.0, "", id="the last one decides"
        ),
        pytest.param("loadbalance weighted /w\nloadbalance {\n prefer ::/0\n}", "", 30.0, "::/0", id="back again"),
    ],
)
def test_reads(text: str, path: str, reload: float, preferred: str) -> None:
    options = world.options("loadbalance", text, root="/root")
    assert (options.path, options.reload) == (path, reload)
    assert options.preferred == tuple(map(Network.from_text, preferred.split()))
    assert period(options) == (reload if path else 0.0)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("loadbalance random", "2:13 'random' is unknown; one of round_robin, weighted", id="policy"),
        pytest.param("loadbalance round_robin x", "2:25 Wrong argument count", id="too much"),
        pytest.param("loadbalance weighted", "2:13 Wrong argument count", id="no file"),
        pytest.param(
            "loadbalance weighted w {\n prefer ::/0\n}", "3:2 unknown property 'prefer'", id="prefer beside weights"
        ),
        pytest.param("loadbalance weighted w {\n reload -1s\n}", "3:9 reload '-1s' is not at least 0", id="negative"),
        pytest.param("loadbalance {\n reload 1s\n}", "3:2 unknown property 'reload'", id="reload beside round robin"),
        pytest.param("loadbalance {\n prefer 10.0.0.1\n}", "3:9 '10.0.0.1' is not a network; a CIDR", id="no prefix"),
        pytest.param("loadbalance {\n prefer 10.0.0.0/99\n}", "3:9 '10.0.0.0/99' is not a network", id="no network"),
    ],
)
def test_rejects(text: str, error: str) -> None:
    assert world.rejection("loadbalance", text).startswith(error)


def test_reads_weights() -> None:
    """A name may be in any letter case and may appear again. If an address has two weights, the first is used."""
    lines = ["# weights", "", "A.b", " 10.0.0.1 3", "10.0.0.1 4", "::1 255", "c.", "a.b.", "10.0.0.2 1"]
    assert read(lines, "w") == {
        b"\1a\1b\0": {bytes((10, 0, 0, 1)): 3, bytes(15) + b"\1": 255, bytes((10, 0, 0, 2)): 1},
        b"\1c\0": {},
    }


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        pytest.param(["a", "x 1"], "w:2: 'x' is not an address", id="address"),
        pytest.param(["a", "::1 0"], "w:2: '0' is not a weight; 1 to 255", id="zero"),
        pytest.param(["a", "::1 256"], "w:2: '256' is not a weight", id="too heavy"),
        pytest.param(["::1 1"], "w:1: '::1 1' comes before any name", id="no name"),
        pytest.param(["::1"], "w:1: '::1' is an address without a weight", id="no weight"),
        pytest.param(["a..b"], "w:1: 'a..b' is not a name", id="name"),
        pytest.param(["a b c"], "w:1: 'a b c' has 3 words", id="words"),
    ],
)
def test_wrong_weights(lines: list[str], error: str) -> None:
    """The error has the line number in the weight file."""
    with pytest.raises(WeightFileError) as raised:
        read(lines, "w")
    assert str(raised.value).startswith(error)


def test_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The weight file may be missing at the start. An error in the file prevents a start. Later, an error is only
    logged.
    """
    path = tmp_path / "weights"
    options = world.options("loadbalance", f"loadbalance weighted {path}")
    assert gather(options, {}) == {}
    assert "retry_seconds=30" in caplog.text
    path.write_text("a\n::1 7\n")
    with caplog.at_level("INFO"):
        known = refresh(options, {})
    assert f"Successfully reloaded weight file {path}" in caplog.text
    assert decode(known[str(path)]) == {b"\1a\0": {bytes(15) + b"\1": 7}}
    caplog.clear()
    with caplog.at_level("INFO"):
        assert refresh(options, known) == gather(options, {}) == known
    assert caplog.text == ""
    path.write_text("a\n::1 0\n")
    assert refresh(options, known) == {}
    assert "'0' is not a weight" in caplog.text
    with pytest.raises(CorefileError, match="'0' is not a weight"):
        gather(options, {})


def test_a_file_without_reload(tmp_path: Path) -> None:
    """If the weight file is never reloaded, it must exist at the start."""
    options = world.options("loadbalance", f"loadbalance weighted {tmp_path}/w {{\n reload 0\n}}")
    with pytest.raises(CorefileError, match="cannot open the weight file"):
        gather(options, {})
    assert refresh(options, {}) == {}
    assert gather(world.options("loadbalance", "loadbalance"), {}) == {}
