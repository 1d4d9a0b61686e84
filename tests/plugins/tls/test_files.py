"""The options of *tls*, and its files."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from svcdns.corefile.errors import CorefileError
from svcdns.plugins.tls import Options, ServerTls, decode, gather, period, refresh
from tests.support import world
from tests.support.certificates import authority, pair


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        pytest.param(
            "tls c /x/k",
            {"certificate": "/root/c", "key": "/x/k", "authorities": "", "client_auth": "nocert"},
            id="pair",
        ),
        pytest.param(
            "tls c k ca {\n client_auth require_and_verify\n}",
            {"authorities": "/root/ca", "client_auth": "require_and_verify"},
            id="ca",
        ),
        pytest.param(
            "tls c k {\n client_auth nocert\n keylog l\n}", {"client_auth": "nocert", "keylog": "/root/l"}, id="keylog"
        ),
        pytest.param("tls a b\ntls c d", {"certificate": "/root/c"}, id="the last one counts"),
    ],
)
def test_reads(text: str, fields: dict[str, Any]) -> None:
    """Paths are relative to the folder of *root*."""
    options = world.options("tls", text, root="/root")
    assert {name: getattr(options, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("tls c", "2:5 Wrong argument count", id="no key"),
        pytest.param("tls a b c d", "2:11 Wrong argument count", id="too many"),
        pytest.param(
            "tls c k {\n client_auth request now\n}",
            "3:22 Wrong argument count",
            id="request",
        ),
        pytest.param(
            "tls c k {\n client_auth verify\n}",
            "3:14 'verify' is unknown; one of nocert, verify_if_given, require_and_verify",
            id="unknown kind",
        ),
        pytest.param(
            "tls c k {\n keylogs a\n}", "3:2 unknown property 'keylogs' (did you mean 'keylog'?)", id="unknown"
        ),
    ],
)
def test_rejects(text: str, error: str) -> None:
    assert world.rejection("tls", text).startswith(error)


def served(folder: Path, more: str = "") -> tuple[Options, dict[str, bytes], ServerTls]:
    """Writes a certificate and key. Returns the options, the plugin data, and the decoded plugin data."""
    if not (folder / "server.crt").exists():
        pair().write(folder)
    options = world.options("tls", f"tls server.crt server.key {more}", root=str(folder))
    known = gather(options, {})
    return options, known, decode(known[options.data_key])


def test_the_data_for_workers(tmp_path: Path) -> None:
    """Workers get the certificate, the key, the authorities, and the rule for client certificates."""
    authority().write(tmp_path)
    options, _, got = served(tmp_path, "ca.crt {\n client_auth verify_if_given\n}")
    assert (got.material.certificates, got.material.key, got.material.authorities) == (*pair(), authority().pem)
    assert got.verify == ssl.CERT_OPTIONAL
    assert not got.refused
    assert period(options) == 10.0


def test_without_authorities_the_systems_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If clients are not verified, no authorities are read."""
    bundle = authority().write(tmp_path, "bundle")
    bundle.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + bundle.read_bytes())
    monkeypatch.setenv(ssl.get_default_verify_paths().openssl_cafile_env, str(bundle))
    _, _, got = served(tmp_path, "{\n client_auth require_and_verify\n}")
    assert got.material.authorities == authority().pem.strip()
    assert served(tmp_path)[2].material.authorities == b""


@pytest.mark.parametrize(
    ("write", "error"),
    [
        pytest.param({"server.key": None}, "open .*server.key: no such file", id="no key"),
        pytest.param({"server.crt": b"x"}, "server.crt has no certificate in PEM form", id="no certificate"),
        pytest.param({"server.key": b"x"}, "server.crt and .*server.key: ", id="a key that is none"),
    ],
)
def test_a_pair_that_cannot_be_used(tmp_path: Path, write: dict[str, bytes | None], error: str) -> None:
    pair().write(tmp_path)
    for name, content in write.items():
        (tmp_path / name).unlink() if content is None else (tmp_path / name).write_bytes(content)
    options = world.options("tls", "tls server.crt server.key", root=str(tmp_path))
    with pytest.raises(CorefileError, match=f"Corefile:2:1 .*plugin/tls: .*{error}"):
        gather(options, {})


def test_an_expired_certificate_is_served_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Clients decide whether they accept the certificate."""
    authority().pair("dns.test", days=-1).write(tmp_path)
    served(tmp_path)
    assert ' expired="' in caplog.text


def test_a_key_log_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    served(tmp_path, "{\n keylog log\n}")
    assert f"can decrypt the TLS connections path={tmp_path}/log" in caplog.text
    with pytest.raises(CorefileError, match=r"plugin/tls: open .*nowhere/log: no such file"):
        served(tmp_path, "{\n keylog nowhere/log\n}")


def test_a_new_pair(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The new certificate is sent to the workers once, and logged."""
    caplog.set_level("INFO")
    options, known, _ = served(tmp_path)
    assert refresh(options, known) == {}
    new = authority().pair("dns.test", days=60)
    new.write(tmp_path)
    changed = refresh(options, known)
    assert decode(changed[options.data_key]).material.certificates == new.certificate
    assert "the certificate was read again path=" in caplog.text
    assert refresh(options, changed) == {}
    assert refresh(options, {}) == {}


def test_a_broken_new_pair(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The old pair stays in use. The new pair is marked as refused, with one error in the log."""
    options, known, before = served(tmp_path)
    (tmp_path / "server.key").write_bytes(authority().pair("dns.test").key)
    broken = refresh(options, known)
    got = decode(broken[options.data_key])
    assert got.material == before.material
    assert b"key values mismatch" in got.refused
    assert caplog.text.count('key values mismatch" valid_until="') == 1
    assert refresh(options, broken) == {}
    pair().write(tmp_path)
    assert decode(refresh(options, broken)[options.data_key]) == before
