"""No process of the server imports a module from its working directory, in starts, reloads and upgrades."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.test_restarts import restarts
from tests.end_to_end.test_serving import BOUND, CLUSTER, WEB
from tests.end_to_end.test_upgrade import upgrade
from tests.support.installed import install, version
from tests.support.planted import INSTALLED, STANDARD, Planted
from tests.support.server import Server, free_port, until

SCRIPT = "import sys\nfrom svcdns.__main__ import main\nsys.exit(main())\n"


class Scripted(Server):
    """A server that is started by a script like the one that pip installs."""

    def command(self) -> list[str]:
        """Writes the script into its own folder, and returns the command."""
        folder = self.folder / "bin"
        folder.mkdir()
        (folder / "svcdns").write_text(SCRIPT)
        return [sys.executable, str(folder / "svcdns")]


def go_through_everything(server: Server) -> None:
    """Starts, reloads, upgrades and kills processes, so that every way of starting a process is used."""
    server.until_ready()
    os.kill(server.children()["worker 0"], signal.SIGKILL)
    until("another worker", lambda: restarts(server, "worker 0", "signal") == 1)
    server.until_ready()
    server.process.send_signal(signal.SIGUSR1)
    server.until_logged("Reloading complete")
    upgrade(server)
    os.kill(server.children()["control"], signal.SIGKILL)
    until("another control", lambda: restarts(server, "control", "signal") == 1)
    server.until_ready()
    assert server.records(WEB) == ["10.96.0.20"]


@pytest.mark.slow
def test_the_installed_command(tmp_path: Path) -> None:
    """`PYTHONPATH` and `PYTHONSTARTUP` have no effect."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    planted = Planted(tmp_path, STANDARD + INSTALLED)
    path = Planted(
        tmp_path / "path", ("_socket", "aiohttp", "asyncio", "json", "msgspec", "queue", "selectors", "socket")
    )
    startup = str(tmp_path / "queue.py")
    with Scripted(tmp_path, BOUND, PYTHONPATH=str(path.folder), PYTHONSTARTUP=startup, PYTHONINSPECT="1") as server:
        go_through_everything(server)
        assert server.stop() == 0
    assert (planted.imported, path.imported) == ("", "")


@pytest.mark.slow
def test_an_upgrade_from_a_build_that_starts_its_successor_by_name(tmp_path: Path) -> None:
    """An older program starts its processes with `python -m`."""
    (tmp_path / "cluster.yaml").write_text(CLUSTER)
    by_name = 'command = [__import__("sys").executable, "-m", '
    install(
        tmp_path,
        successor=("supervisor/reexec.py", "command = isolated.command(", by_name),
        end=("supervisor/reexec.py", '"--adopt", str(fd))', '"--adopt", str(fd)]'),
        check=("supervisor/preflight.py", "command = isolated.command(PROGRAM)", f"{by_name}'svcdns.cli.handover']"),
    )
    with Server(tmp_path, BOUND) as server:
        server.until_ready()
        planted = Planted(tmp_path, STANDARD)
        install(tmp_path, version=version("9.1"))
        go_through_everything(server)
        assert server.metric(r'coredns_build_info\{[^}]*version="9.1"\}') == 1
    assert planted.imported == ""


@pytest.mark.slow
def test_the_demo(tmp_path: Path) -> None:
    project = Path(__file__).parents[2]
    (tmp_path / "zones").symlink_to(project / "zones")
    corefile = (project / "Corefile.example").read_text()
    for port in ("1053", "8080", "8181", "9153"):
        assert f":{port}" in corefile
        corefile = corefile.replace(f":{port}", f":{free_port()}")
    (tmp_path / "Corefile.example").write_text(corefile)
    planted = Planted(tmp_path, STANDARD + INSTALLED)
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "svcdns"
    script.write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, str(script), "demo"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as demo:
        assert demo.stdout is not None
        assert any("Ctrl-C ends it" in line for line in demo.stdout)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0
    assert planted.imported == ""
