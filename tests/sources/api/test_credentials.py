"""Access to the API server: the files of a Pod, kubeconfigs, and endpoints with TLS."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import ssl
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from svcdns.cluster.watch_options import SourceError, WatchOptions
from svcdns.sources.api import credentials as credentials_module
from svcdns.sources.api import kubeconfig as kubeconfig_module
from svcdns.sources.api.credentials import EXEC_REFRESH, EXEC_RETRY, REFRESH, Access, Credentials
from svcdns.sources.api.kubeconfig import Loaded, Part
from svcdns.sources.snapshot_file import Origin
from tests.support import fifos, world
from tests.support.certificates import authority as certificate_authority
from tests.support.certificates import pair

pytestmark = pytest.mark.usefixtures("kubeconfigs_read_here")

LOG = logging.getLogger("credentials-test")


def kubeconfig(folder: Path, user: dict[str, Any], **cluster: Any) -> str:
    """Writes a kubeconfig, and returns its path. Its contexts `here` and `other` are for different servers."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [
            {"name": "here", "context": {"cluster": "one", "user": "u"}},
            {"name": "other", "context": {"cluster": "two", "user": "u"}},
        ],
        "clusters": [
            {"name": "one", "cluster": {"server": "http://127.0.0.1:1", **cluster}},
            {"name": "two", "cluster": {"server": "http://10.0.0.9:2/"}},
        ],
        "users": [{"name": "u", "user": user}],
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return str(path)


async def access(options: WatchOptions) -> Access:
    """Returns the access to the API server for these options."""
    return await Credentials(options, clock=world.Clock(), log=LOG).access()


async def test_kubeconfig_with_a_token(tmp_path: Path) -> None:
    """The token is that of the current context, or of the context that the option names."""
    path = kubeconfig(tmp_path, {"token": "secret"})
    found = await access(WatchOptions(kubeconfig=path))
    assert (found.url, found.headers, found.host, found.local) == (
        "http://127.0.0.1:1",
        {"Authorization": "Bearer secret"},
        "127.0.0.1:1",
        True,
    )
    other = await access(WatchOptions(kubeconfig=path, context="other"))
    assert (other.url, other.local) == ("http://10.0.0.9:2", False)


async def test_a_changed_kubeconfig_takes_effect_after_refresh(tmp_path: Path) -> None:
    """Within `REFRESH` seconds, the kubeconfig is not read again. No restart is needed."""
    clock = world.Clock()
    credentials = Credentials(WatchOptions(kubeconfig=kubeconfig(tmp_path, {"token": "old"})), clock=clock, log=LOG)
    await credentials.access()
    kubeconfig(tmp_path, {"token": "new"})
    assert (await credentials.access()).headers == {"Authorization": "Bearer old"}
    clock.turn(REFRESH)
    assert (await credentials.access()).headers == {"Authorization": "Bearer new"}


async def test_an_exec_plugin(tmp_path: Path) -> None:
    """An exec plugin is run again if its token is refused or old, but not more often than every few seconds."""
    count = tmp_path / "count"
    script = tmp_path / "plugin"
    status = '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"t%d"}}'
    script.write_text(
        f"#!{sys.executable}\nwith open({str(count)!r}, 'a+') as f:\n f.write('x')\n f.seek(0)\n print({status!r} % len(f.read()))\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    user = {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(script), "interactiveMode": "Never"}
    }
    clock = world.Clock()
    credentials = Credentials(WatchOptions(kubeconfig=kubeconfig(tmp_path, user)), clock=clock, log=LOG)
    assert (await credentials.access()).headers == {"Authorization": "Bearer t1"}
    clock.turn(REFRESH * 2)
    assert (await credentials.access()).headers == {"Authorization": "Bearer t1"}
    assert await credentials.renew(refused=True)
    assert (await credentials.access()).headers == {"Authorization": "Bearer t2"}
    assert not await credentials.renew(refused=True), "it is not run more often than every EXEC_RETRY seconds"
    clock.turn(EXEC_RETRY)
    assert await credentials.renew(refused=True)
    assert not await credentials.renew(refused=False)
    clock.turn(EXEC_REFRESH)
    assert (await credentials.access()).headers == {"Authorization": "Bearer t4"}


async def test_a_kubeconfig_is_read_again_when_one_of_its_files_has_changed(tmp_path: Path) -> None:
    """Loading a kubeconfig starts a process, so it is done only after a change."""
    (tmp_path / "token").write_text("old")
    clock = world.Clock()
    credentials = Credentials(
        WatchOptions(kubeconfig=kubeconfig(tmp_path, {"tokenFile": "token"})), clock=clock, log=LOG
    )
    found = await credentials.access()
    assert found.headers == {"Authorization": "Bearer old"}
    loaded = credentials._kubeconfig
    clock.turn(REFRESH)
    assert await credentials.access() == found
    assert credentials._kubeconfig is loaded
    (tmp_path / "token").write_text("newer")
    clock.turn(REFRESH)
    assert (await credentials.access()).headers == {"Authorization": "Bearer newer"}


async def test_a_kubeconfig_with_its_authority_in_it(tmp_path: Path) -> None:
    """The SSL context is kept while the CA certificate stays the same."""
    authority = Path(ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt").read_bytes()
    data = {"certificate-authority-data": base64.b64encode(authority).decode(), "server": "https://127.0.0.1:1"}
    credentials = Credentials(
        WatchOptions(kubeconfig=kubeconfig(tmp_path, {"token": "t"}, **data)), clock=world.Clock(), log=LOG
    )
    found = await credentials.access()
    assert found.ssl is not None
    assert found.ssl.get_ca_certs()
    assert not await credentials.renew(refused=True)
    assert (await credentials.access()).ssl is found.ssl


@pytest.mark.parametrize("text", [None, ""], ids=["missing", "empty"])
async def test_a_pod_without_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """The error is one line. An empty token is an error, too."""
    if text is not None:
        (tmp_path / "token").write_text(text)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(SourceError, match=r"in-cluster configuration: .*token"):
        await Credentials(WatchOptions(), clock=world.Clock(), log=LOG, service_account=str(tmp_path)).access()


async def test_inside_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of the service account are used. A rotated token is read again."""
    (tmp_path / "ca.crt").write_text(
        Path(ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt").read_text()
    )
    (tmp_path / "token").write_text("first")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    clock = world.Clock()
    credentials = Credentials(WatchOptions(), clock=clock, log=LOG, service_account=str(tmp_path))
    found = await credentials.access()
    assert (found.url, found.headers) == ("https://10.96.0.1:443", {"Authorization": "Bearer first"})
    assert found.ssl is not None
    (tmp_path / "token").write_text("second")
    clock.turn(REFRESH)
    again = await credentials.access()
    assert again.headers == {"Authorization": "Bearer second"}
    assert again.ssl is found.ssl


async def test_the_origin_has_the_address_and_the_ca(tmp_path: Path) -> None:
    """Another CA certificate at the same address means another cluster."""
    text = Path(ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt").read_text()
    ends = [part + "-----END CERTIFICATE-----\n" for part in text.split("-----END CERTIFICATE-----\n")][:3]
    origins = []
    for name, authority in (("one", ends[0]), ("other", ends[1]), ("both", ends[0] + ends[1])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ca.crt").write_text(authority)
        context = ssl.create_default_context(cafile=str(tmp_path / name / "ca.crt"))
        origins.append(Access("https://10.96.0.1:443", {}, context).origin)
    one, other, both = origins
    assert (one.is_that_of(other), one.is_that_of(both), both.is_that_of(other)) == (False, True, True)
    assert Access("http://a", {}).origin == Origin("http://a")


async def test_not_inside_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(SourceError, match=r"unable to load in-cluster configuration.*outside a cluster use kubeconfig"):
        await access(WatchOptions())


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://a:1/", "http://a:1"),
        ("10.0.0.1:8080", "http://10.0.0.1:8080"),
        ("https://[::1]:6443", "https://[::1]:6443"),
    ],
)
async def test_an_endpoint(endpoint: str, url: str) -> None:
    """The scheme of `endpoint` is optional."""
    assert (await access(WatchOptions(endpoint=endpoint))).url == url


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("nonsense: [", "kubeconfig: ", id="no YAML"),
        pytest.param("{}", "kubeconfig: ", id="empty"),
    ],
)
async def test_a_kubeconfig_that_is_wrong(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(SourceError) as raised:
        await access(WatchOptions(kubeconfig=str(path)))
    assert str(raised.value).startswith(error)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


async def test_an_authority_in_a_kubeconfig_that_is_no_certificate(tmp_path: Path) -> None:
    data = {"certificate-authority-data": base64.b64encode(b"text").decode(), "server": "https://127.0.0.1:1"}
    with pytest.raises(SourceError, match=r"^tls: cannot use data of the kubeconfig: \[X509"):
        await access(WatchOptions(kubeconfig=kubeconfig(tmp_path, {"token": "t"}, **data)))


async def test_keys_in_a_kubeconfig_are_not_written_to_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL reads a key from a file in memory."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a temporary file")

    for name in ("mkstemp", "NamedTemporaryFile", "TemporaryFile"):
        monkeypatch.setattr(tempfile, name, refuse)
    certificate, key = (Part(text=one.decode()) for one in pair())
    trusted = Part(text=certificate_authority().pem.decode())
    loaded = Loaded("https://127.0.0.1:1", authority=trusted, certificate=certificate, key=key)

    async def load(*_: object) -> Loaded:
        return loaded

    monkeypatch.setattr(kubeconfig_module, "load", load)
    found = await access(WatchOptions(kubeconfig="any"))
    assert found.ssl is not None
    assert len(found.ssl.get_ca_certs()) == 1


# -- mounts that hang


async def test_files_that_hang_leave_the_last_access_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While the token file hangs, the last token is used, with one warning."""
    monkeypatch.setattr(credentials_module, "LATER_WAIT", 0.01)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    (tmp_path / "ca.crt").write_text(
        Path(ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt").read_text()
    )
    (tmp_path / "token").write_text("first")
    clock = world.Clock()
    credentials = Credentials(WatchOptions(), clock=clock, log=LOG, service_account=str(tmp_path))
    first = await credentials.access()
    (tmp_path / "token").unlink()
    os.mkfifo(tmp_path / "token")
    for _ in range(3):
        clock.turn(REFRESH)
        assert await credentials.access() is first
    assert not await credentials.renew(refused=True)
    assert caplog.messages == ["reading the credentials takes long: the earlier ones stay in use seconds=0.01"]
    await fifos.write(tmp_path / "token", "second")
    async with asyncio.timeout(30):
        while not await credentials.renew(refused=False):
            await asyncio.sleep(0.001)
    assert (await credentials.access()).headers == {"Authorization": "Bearer second"}
    await credentials.close()


async def test_files_that_hang_at_the_start_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a start there are no earlier credentials."""
    monkeypatch.setattr(credentials_module, "FIRST_LIMIT", 0.01)
    os.mkfifo(tmp_path / "ca.crt")
    options = WatchOptions(endpoint="https://a", tls=(str(tmp_path / "ca.crt"),) * 3)
    credentials = Credentials(options, clock=world.Clock(), log=LOG)
    with pytest.raises(SourceError, match=r"credentials: their files cannot be read within 0\.01 s"):
        await credentials.access()
    await credentials.close()
    (tmp_path / "ca.crt").open("r+b", buffering=0).close()
