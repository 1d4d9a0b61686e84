"""The files of `grpc`."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from svcdns.corefile.errors import CorefileError
from svcdns.plugins.grpc import files
from svcdns.plugins.grpc.options import Options, Upstream
from tests.support import world


def options(text: str) -> Options:
    found: Options = world.options("grpc", text)
    return found


def test_name_servers(tmp_path: Path) -> None:
    """A file without name servers, and one that does not exist, are errors."""
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 10.0.0.1\nnameserver 2003::1\n")
    found = options(f"grpc . {path}")
    (payload,) = files.gather(found, {}).values()
    assert files.servers(payload) == [Upstream("10.0.0.1", 53), Upstream("2003::1", 53)]
    assert (files.period(found), files.refresh(found, {})) == (0, {})
    path.write_text("")
    with pytest.raises(CorefileError, match="no nameservers found in"):
        files.gather(found, {})
    path.unlink()
    with pytest.raises(CorefileError, match=r'not an IP address or file ".*resolv\.conf": no such file or directory'):
        files.gather(found, {})


def test_certificates(tmp_path: Path) -> None:
    """The certificates are read again. Files that cannot be used are errors."""
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    found = options(f"grpc . 10.0.0.1 {{\n tls {path}\n}}")
    before = files.gather(found, {})
    assert files.material(before[found.tls_key]).authorities == path.read_bytes()
    assert files.period(found) == files.PERIOD
    trustme.CA().cert_pem.write_to_path(str(path))
    assert files.refresh(found, before) != before
    path.write_text("none")
    for read in (files.gather, files.refresh):
        with pytest.raises(CorefileError, match=r"plugin/grpc: .*ca\.pem has no certificate in PEM form"):
            read(found, before)


def test_the_authorities_of_the_system() -> None:
    found = options("grpc . 10.0.0.1 {\n tls\n}")
    assert found.tls_key in files.gather(found, {})
    assert files.period(found) == 0


def test_a_network_with_several_zones(caplog: pytest.LogCaptureFixture) -> None:
    assert files.gather(options("grpc 10.0.0.0/23 10.0.0.1"), {}) == {}
    assert "one of its zones is forwarded zone=0.0.10.in-addr.arpa." in caplog.text
