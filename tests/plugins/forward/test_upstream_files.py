"""Upstreams that are given by resolv.conf files and by host names."""

from __future__ import annotations

from pathlib import Path

import pytest

from svcdns.corefile.errors import CorefileError
from svcdns.plugins.forward import gather, period, refresh
from svcdns.plugins.forward.upstream_files import PERIOD, decode
from svcdns.upstream.blocking_resolver import ResolveError
from tests.support import world


def test_gathers_files(tmp_path: Path) -> None:
    """A rule without any upstream is an error."""
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.1\n")
    read = world.options("forward", f"forward . {path}")
    assert {key: decode(content) for key, content in gather(read, {}).items()} == {str(path): [("192.0.2.1", 53)]}
    path.write_text("search a.b\n")
    with pytest.raises(CorefileError, match=r"Corefile:2:1 .*no valid upstream addresses found in"):
        gather(read, {})
    assert [decode(content) for content in gather(world.options("forward", f"forward . {path} ::1"), {}).values()] == [
        []
    ]
    path.unlink()
    with pytest.raises(CorefileError, match="no such file or directory"):
        gather(read, {})


def test_gathers_hosts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An upstream that is not the path of a file is resolved as a host name. A host without addresses is an error."""
    monkeypatch.chdir(tmp_path)
    asked = []

    def addresses_of(host: str, servers: tuple[tuple[str, int], ...]) -> list[str]:
        asked.append((host, servers))
        if host == "none":
            raise ResolveError("no addresses found for none")
        return ["192.0.2.1", "::1"]

    monkeypatch.setattr("svcdns.plugins.forward.upstream_files.addresses_of", addresses_of)
    read = world.options("forward", "forward . ns.a.b:54 192.0.2.9 {\n resolver 192.0.2.53\n}")
    found = {key: decode(content) for key, content in gather(read, {}).items()}
    assert found == {"ns.a.b:54 192.0.2.53:53": [("192.0.2.1", 54), ("::1", 54)]}
    assert asked == [("ns.a.b", (("192.0.2.53", 53),))]
    with pytest.raises(CorefileError, match="failed to resolve 'none': no addresses found for none"):
        gather(world.options("forward", "forward . none"), {})
    (tmp_path / "none").write_text("nameserver ::2")
    assert [decode(content) for content in gather(world.options("forward", "forward . none"), {}).values()] == [
        [("::2", 53)]
    ]


def test_zones_that_are_left_out_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A network may stand for several zones. Those that are not forwarded are logged."""
    gather(world.options("forward", "forward 10.0.0.0/15 ::1"), {})
    assert "zone=0.10.in-addr.arpa. left_out=1.10.in-addr.arpa." in caplog.text


def test_files_are_read_again(tmp_path: Path) -> None:
    """Changed addresses are sent to the workers. A missing or empty file has no effect."""
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.1\n")
    options = world.options("forward", f"forward . {path} 192.0.2.9 localhost")
    assert period(options) == PERIOD
    known = {str(path): gather(world.options("forward", f"forward . {path}"), {})[str(path)]}
    assert refresh(options, known) == {}
    path.write_text("nameserver 192.0.2.2\nnameserver ::1\n")
    changed = refresh(options, known)
    assert {key: decode(content) for key, content in changed.items()} == {str(path): [("192.0.2.2", 53), ("::1", 53)]}
    assert refresh(options, known | changed) == {}
    path.write_text("search a.b\n")
    assert refresh(options, known | changed) == {}
    path.unlink()
    assert refresh(options, known | changed) == {}
    assert period(world.options("forward", "forward . ::1")) == 0
