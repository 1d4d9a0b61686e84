"""The addresses of the DNS ports that a start opens before it imports the plugins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from svcdns.control import early_ports
from svcdns.control.configuration import check
from svcdns.control.early_ports import addresses, read
from svcdns.corefile.blocks import Corefile
from svcdns.corefile.parser import parse
from svcdns.errors import SvcdnsError


def parsed(text: str) -> Corefile:
    return parse(text, "Corefile", environ={}, default_port=1053)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(". {\n whoami\n}", id="the default port"),
        pytest.param("a:53 b:54 {\n whoami\n}\nc:53 {\n whoami\n}", id="several keys and blocks"),
        pytest.param(". {\n bind 127.0.0.1 ::1\n bind 127.0.0.2\n whoami\n}", id="bind"),
        pytest.param("10.0.0.0/23 {\n whoami\n}", id="a network"),
    ],
)
def test_the_addresses_are_those_of_the_checked_corefile(text: str) -> None:
    """`configuration` finds the same addresses later, so that no socket is opened twice."""
    corefile = parsed(text)
    assert set(addresses(corefile, {})) == set(check(corefile).listen)
    assert addresses(corefile, {})


def test_a_tls_block_listens_on_tcp() -> None:
    assert addresses(parsed("tls://. {\n tls a b\n whoami\n}"), {}) == [("", 853, "tcp")]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("bind lo", id="an interface"),
        pytest.param("bind 127.0.0.1 {\n except 127.0.0.2\n }", id="except"),
        pytest.param("bind", id="bind without an address"),
        pytest.param("kubernetes cluster.local", id="lists of an API server"),
        pytest.param("kubernetes cluster.local {\n snapshot /nowhere/at/all\n }", id="a snapshot that is not there"),
        pytest.param("kubernetes cluster.local {\n snapshot\n }", id="a snapshot without a folder"),
    ],
)
def test_ports_that_are_not_opened_early(line: str) -> None:
    """If the ports of one block cannot be opened early, no port is."""
    assert addresses(parsed(f"a {{\n whoami\n}}\nb {{\n {line}\n}}"), {}) == []


@pytest.mark.parametrize("key", [".:0", "grpc://."])
def test_keys_that_are_not_opened_early(key: str) -> None:
    """The port is 0, or svcdns does not have the transport."""
    assert addresses(parsed(f"{key} {{\n whoami\n}}"), {}) == []


def test_ports_are_opened_early_with_manifests_or_a_snapshot(tmp_path: Path) -> None:
    """Options may come from environment variables."""
    (tmp_path / "view").write_bytes(b"")
    text = ". {\n kubernetes cluster.local {\n  %s\n }\n}"
    ports = [("", 1053, "udp"), ("", 1053, "tcp")]
    assert addresses(parsed(text % "manifests /a"), {}) == ports
    assert addresses(parsed(text % f"snapshot {tmp_path}"), {}) == ports
    assert addresses(parsed(text % "pods insecure"), {"SVCDNS_SNAPSHOT": f"{tmp_path} 1h"}) == ports
    assert addresses(parsed(". {\n kubernetes cluster.local\n}"), {"SVCDNS_MANIFESTS": "/a"}) == ports


def test_a_corefile_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "Corefile").write_text(". {\n")
    found, ports = read(str(tmp_path / "Corefile"), 53)
    assert isinstance(found, SvcdnsError)
    assert ports == []


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    """The content is returned for later use, because a pipe cannot be read again."""
    end, other = os.pipe()
    os.write(other, b".:5300 {\n whoami\n}\n")
    os.close(other)
    found, ports = read(f"/dev/fd/{end}", 53)
    os.close(end)
    assert isinstance(found, Corefile)
    assert ports == [("", 5300, "udp"), ("", 5300, "tcp")]


def test_a_corefile_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start continues without early ports."""
    monkeypatch.setattr(early_ports, "LIMIT", 0.01)
    os.mkfifo(tmp_path / "Corefile")
    assert read(str(tmp_path / "Corefile"), 53) == (None, [])
    os.close(os.open(tmp_path / "Corefile", os.O_RDWR))  # ends the thread that waits for the pipe


def test_no_plugin_is_imported() -> None:
    code = "import sys, svcdns.control.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"asyncio", "svcdns.plugins", "svcdns.control.process", "ssl", "logging"}
