"""The command `svcdns explain`, as a user runs it."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from svcdns.cli import commands
from svcdns.cli.errors import CannotRun
from svcdns.cli.explain import Asker, _pod, is_socket

MANIFEST = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop}
spec: {containers: [{name: a, image: b}]}
status: {phase: Running, podIP: 10.244.0.7}
"""


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    manifests, corefile = tmp_path / "a.yaml", tmp_path / "Corefile"
    manifests.write_text(MANIFEST)
    corefile.write_text(
        ".:53 {\n kubernetes cluster.local\n template IN ANY . {\n  match ^[a-z]+[.]$\n  rcode NXDOMAIN\n  fallthrough\n }\n}\n"
    )
    return ["explain", "--conf", str(corefile), "--manifests", str(manifests)]


def test_a_name_that_exists(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run([*arguments, "web", "--verbose"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Service default/web has the ClusterIP 10.96.0.1"
    assert lines[1] == "search path: default.svc.cluster.local. svc.cluster.local. cluster.local. (ndots:5)"
    assert "query 1: web.default.svc.cluster.local. A -> NOERROR, block ." in lines
    assert "    web.default.svc.cluster.local. 5 IN A 10.96.0.1" in lines


def test_the_search_path_of_a_pod(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run([*arguments, "web", "--pod", "shop/client", "--output", "json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["client"] == "10.244.0.7"
    assert found["search"][0] == "shop.svc.cluster.local."
    assert found["near"] == ["web.default.svc.cluster.local."]


def test_the_search_path_of_a_client_that_is_a_pod(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run([*arguments, "web", "--client", "10.244.0.7", "--output", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["search"][0] == "shop.svc.cluster.local."


def test_the_namespace_of_an_unknown_client_is_assumed(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert commands.run([*arguments, "tea", "--client", "10.244.0.9"]) == 1
    out, failure = capsys.readouterr()
    assert out.startswith("no name of the search path exists: namespace 'default' has no Service 'tea'")
    assert failure == "the client is assumed to be in the namespace 'default'; --namespace or --pod names another one\n"


def test_a_pod_of_a_server_that_watches_no_pods() -> None:
    asker = Asker("127.0.0.1", False, "shop/client", None, [])
    assert _pod(asker, None) == ("shop", "127.0.0.1")
    assert "the address of shop/client is unknown" in asker.notes[0]


def test_the_path_of_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path without a slash is understood if the socket exists. Otherwise the error says what to write."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("admin.sock")
        assert is_socket("admin.sock")
    assert is_socket("/run/absent")
    assert not is_socket("dns.example:53")
    with pytest.raises(CannotRun, match=r"write its path, such as /run/svcdns/other\.sock"):
        is_socket("other.sock")


@pytest.mark.parametrize(
    "more",
    [
        ["web", "--pod", "shop/absent"],
        ["web", "--client", "host"],
        ["web", "--client", "10.0.0.1", "--pod", "shop/client"],
        [f"{'a' * 64}.test."],
        ["web", "NOTYPE"],
    ],
)
def test_what_cannot_run(arguments: list[str], more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run([*arguments, *more]) == 2
    assert capsys.readouterr().err


def test_a_missing_corefile(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run(["explain", "web", "--conf", "/absent"]) == 2
    assert "no such file or directory" in capsys.readouterr().err


def test_errors_of_the_corefile_are_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(arguments[2])
    path.write_text(path.read_text().replace("template", "cahce 30\n template"))
    assert commands.run([*arguments, "web"]) == 0
    assert "has 1 error, see 'svcdns check'" in capsys.readouterr().err


def test_an_address_is_explained_by_its_ptr_record(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    corefile = Path(arguments[2])
    corefile.write_text(corefile.read_text().replace("cluster.local", "cluster.local in-addr.arpa", 1))
    assert commands.run([*arguments, "10.96.0.1"]) == 0
    out, failure = capsys.readouterr()
    assert out.startswith("1.0.96.10.in-addr.arpa. is the address of Service default/web\n")
    assert failure == "10.96.0.1 is an address: its PTR record is explained\n"


def test_an_external_name_without_an_address(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    manifests = Path(arguments[4])
    external = (
        "apiVersion: v1\nkind: Service\nmetadata: {name: ext}\nspec: {type: ExternalName, externalName: absent.}\n"
    )
    manifests.write_text(f"{MANIFEST}---\n{external}")
    assert commands.run([*arguments, "ext"]) == 1
    first = capsys.readouterr().out.splitlines()[0]
    expected = "Service default/ext is an ExternalName for absent., which has no A records: answered with NXDOMAIN by"
    assert first.startswith(f"{expected} 'template' (")


def test_a_service_without_endpoints_has_a_note(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run([*arguments, "web"]) == 0
    note = "note: the Service has no ready endpoint, so connections to its address fail"
    assert f"    {note}" in capsys.readouterr().out.splitlines()


def test_an_api_server_that_refuses_connections(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    corefile = Path(arguments[2])
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{closed.getsockname()[1]}"
        corefile.write_text(f".:53 {{\n kubernetes cluster.local {{\n  endpoint http://{where}\n }}\n}}\n")
        assert commands.run([*arguments[:3], "web"]) == 2
    failure = capsys.readouterr().err
    assert f"the cluster cannot be read: connect {where}: connection refused" in failure
    assert "--server PATH" in failure


def test_a_full_name_without_its_dot(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    name = "web.default.svc.cluster.local"
    assert commands.run([*arguments, name]) == 0
    assert f"fewer queries: write '{name}.' with the dot at its end" in capsys.readouterr().out.splitlines()[2]
