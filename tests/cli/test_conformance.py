"""The command `conformance`: arguments, errors, exit codes, and a run against a model server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from svcdns.cli import conformance
from svcdns.conformance.checks import CHECKS
from svcdns.conformance.errors import ConformanceError
from tests.conformance.faults import FAULTS
from tests.conformance.model import FakeApi, Fault, ModelServer
from tests.conformance.test_checks import KUBERNETES

MANIFEST = """
apiVersion: v1
kind: Service
metadata: {name: kubernetes, namespace: default}
spec: {clusterIP: 10.96.0.1, ports: [{name: https, port: 443}]}
"""


@pytest.fixture
def serve() -> Iterator[Callable[[Fault], int]]:
    """Starts model servers in a thread, and returns their ports."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    ends: list[asyncio.Event] = []

    def start(fault: Fault) -> int:
        async def hold(started: asyncio.Future[int], end: asyncio.Event) -> None:
            async with ModelServer(
                FakeApi(KUBERNETES, {"kind": "Namespace", "metadata": {"name": "default"}}), fault
            ).serving() as model:
                started.set_result(model.port)
                await end.wait()

        async def begin() -> int:
            started: asyncio.Future[int] = loop.create_future()
            ends.append(asyncio.Event())
            tasks.append(loop.create_task(hold(started, ends[-1])))
            return await started

        return asyncio.run_coroutine_threadsafe(begin(), loop).result(10)

    async def finish() -> None:
        for end in ends:
            end.set()
        await asyncio.gather(*tasks)

    tasks: list[asyncio.Task[None]] = []
    yield start
    asyncio.run_coroutine_threadsafe(finish(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("10.0.0.1", ("10.0.0.1", 53)),
        ("dns.example:5353", ("dns.example", 5353)),
        ("[fd00::1]:54", ("fd00::1", 54)),
        ("[fd00::1]", ("fd00::1", 53)),
        ("fd00::1", ("fd00::1", 53)),
    ],
)
def test_the_address_of_the_server(text: str, wanted: tuple[str, int]) -> None:
    """The port is optional. An IPv6 address may be in brackets."""
    assert conformance.address(text) == wanted


@pytest.mark.parametrize("text", ["", ":53", "a:b", "a:0", "a:65536", "[fd00::1]:x"])
def test_text_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConformanceError, match="HOST or HOST:PORT"):
        conformance.address(text)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param(["--existing"], "--server HOST[:PORT] is missing", id="no-server"),
        pytest.param(
            ["--server", "127.0.0.1"], "one of --kubeconfig FILE, --manifests PATH and --existing", id="no-cluster"
        ),
        pytest.param(["--server", "h", "--manifests", "x", "--existing"], "cannot be combined with", id="two-clusters"),
        pytest.param(["--server", "h:x", "--existing"], "HOST or HOST:PORT", id="port"),
        pytest.param(["--server", "h", "--existing", "--zone", "a..b"], "--zone a..b: ", id="zone"),
        pytest.param(
            ["--only", "nothing", "--list"], "--only nothing: expected a check or one of the groups", id="only"
        ),
        pytest.param(["--server", "127.0.0.1:1", "--manifests", "nowhere.yaml"], "nowhere.yaml", id="manifests"),
        pytest.param(
            ["--server", "127.0.0.1:1", "--existing", "--wait", "0.01"], "does not answer within", id="no reply"
        ),
    ],
)
def test_errors_are_one_line(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert conformance.run(arguments) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.startswith("svcdns conformance: ")
    assert error.count("\n") == 1


def test_a_bad_kubeconfig_is_one_line(
    serve: Callable[[Fault], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = serve(Fault())
    path = tmp_path / "kubeconfig"
    path.write_text("clusters: 7")
    assert conformance.run(["--server", f"127.0.0.1:{port}", "--kubeconfig", str(path)]) == 2
    error = capsys.readouterr().err
    assert str(path) in error
    assert error.count("\n") == 1


def test_list_prints_the_checks(capsys: pytest.CaptureFixture[str]) -> None:
    assert conformance.run(["--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in CHECKS)
    assert conformance.run(["--list", "--only", "search"]) == 0
    assert "isc-edns" not in capsys.readouterr().out


def test_a_conforming_server(serve: Callable[[Fault], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(MANIFEST)
    port = serve(Fault())
    assert conformance.run(["--server", f"127.0.0.1:{port}", "--manifests", str(path)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].startswith("conforms (required: ")
    assert conformance.run(["--server", f"127.0.0.1:{port}", "--existing", "--only", "kubernetes-service"]) == 0


def test_a_server_that_does_not_conform(
    serve: Callable[[Fault], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(MANIFEST)
    arguments = ["--server", f"127.0.0.1:{serve(FAULTS['isc-edns'])}", "--manifests", str(path), "--only", "isc-edns"]
    assert conformance.run(arguments) == 1
    out = capsys.readouterr().out
    assert "expected  rcode NOERROR" in out
    assert "see it    dig @127.0.0.1 -p " in out
    assert conformance.run([*arguments, "--output", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["conforms"] is False
