"""The server in a container of runc, with the rights that deploy/ gives: a seccomp profile and a read-only file system.

The profile is the default of Debian's container tools. Kubernetes calls the default profile of a runtime
RuntimeDefault. For a refused system call, containerd reports EPERM, and Debian's tools report ENOSYS.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import svcdns
from tests.support.server import Server, is_alive, until

pytestmark = pytest.mark.integration

USER: Final = 65532
CAPABILITIES: Final = ["CAP_NET_BIND_SERVICE"]
PROFILE: Final = Path("/usr/share/containers/seccomp.json")
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
COREFILE: Final = """
.:{port} {
    bind 127.0.0.1
    errors
    health 127.0.0.1:{health}
    ready 127.0.0.1:{ready}
    cache
    whoami
}
"""
_numbers: Final = itertools.count(1)


def seccomp(refused: int) -> dict[str, Any]:
    """Returns the default profile in the format of a runtime, for this machine and the container's capabilities. System
    calls that the profile does not name fail with the error number `refused`.
    """
    profile = json.loads(PROFILE.read_text())
    machine = ARCHITECTURES[platform.machine()]
    rules = []
    for rule in profile["syscalls"]:
        includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
        if machine not in includes.get("arches", [machine]) or machine in excludes.get("arches", []):
            continue
        if not set(includes.get("caps", [])) <= set(CAPABILITIES) or set(excludes.get("caps", [])) & set(CAPABILITIES):
            continue
        rules.append({key: rule[key] for key in ("names", "action", "args", "errnoRet") if rule.get(key)})
    return {"defaultAction": profile["defaultAction"], "defaultErrnoRet": refused, "syscalls": rules}


def folders() -> list[str]:
    """Returns the folders of the machine that the program needs."""
    needed = ("/usr", sys.base_prefix, sys.prefix, sysconfig.get_path("purelib"), Path(svcdns.__file__).parents[1])
    places = dict.fromkeys(str(Path(place).resolve()) for place in needed)
    return [one for one in places if not any(one != other and Path(one).is_relative_to(other) for other in places)]


class Bundle(Server):
    """A server that runc has started. The server uses the machine's network."""

    refused = errno.EPERM
    name = ""

    def launch(self) -> subprocess.Popen[bytes]:
        """Writes an OCI bundle, and starts its container."""
        root = self.folder / "root"
        (root / "etc").mkdir(parents=True)
        shutil.copy(self.corefile, root / "etc" / "Corefile")
        shutil.copy("/etc/ld.so.cache", root / "etc")
        for link in ("bin", "lib", "lib64", "sbin"):
            (root / link).symlink_to(f"usr/{link}")
        (self.folder / "config.json").write_text(json.dumps(self._specification()))
        self.name = f"svcdns-{os.getpid()}-{next(_numbers)}"
        command = ["runc", f"--root={self.folder}/state", "run", f"--bundle={self.folder}"]
        with self.log_file.open("wb") as log:
            return subprocess.Popen(
                [*command, "--pid-file", str(self.folder / "pid"), self.name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _specification(self) -> dict[str, Any]:
        bound = [
            {"destination": one, "source": one, "type": "bind", "options": ["bind", "ro", "nosuid"]}
            for one in folders()
        ]
        return {
            "ociVersion": "1.0.2",
            "root": {"path": "root", "readonly": True},
            "process": {
                "cwd": "/",
                "user": {"uid": USER, "gid": USER},
                "args": [sys.executable, "-m", "svcdns", "-conf", "/etc/Corefile"],
                "env": ["PATH=/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE=1"],
                "noNewPrivileges": True,
                "capabilities": {"bounding": CAPABILITIES},
            },
            "mounts": [
                {"destination": "/proc", "source": "proc", "type": "proc"},
                {"destination": "/dev", "source": "tmpfs", "type": "tmpfs", "options": ["nosuid", "mode=755", "ro"]},
                *bound,
            ],
            "linux": {
                "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
                "seccomp": seccomp(self.refused),
            },
        }

    def __exit__(self, *_: object) -> None:
        """Kills PID 1 of the container. runc then ends and removes the container."""
        if self.process.poll() is None:
            os.kill(self.first, signal.SIGKILL)
        self.process.wait()

    @property
    def first(self) -> int:
        """Returns the id, outside the container, of the container's PID 1."""
        return int((self.folder / "pid").read_text())

    def processes(self) -> list[int]:
        """Returns the process ids of the supervisor and its children."""
        children = Path(f"/proc/{self.first}/task/{self.first}/children").read_text().split()
        return [self.first, *map(int, children)]


class BundleWithoutCall(Bundle):
    """A server for which refused system calls fail as if the kernel did not have them (ENOSYS)."""

    refused = errno.ENOSYS


def fields(pid: int) -> dict[str, str]:
    """Returns the fields of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.fixture(scope="module", params=[Bundle, BundleWithoutCall], ids=["EPERM", "ENOSYS"])
def container(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    if os.geteuid() != 0 or shutil.which("runc") is None or not PROFILE.exists():
        pytest.skip("needs root, runc, and the seccomp profile of golang-github-containers-common")
    with request.param(tmp_path_factory.mktemp("bundle"), COREFILE) as server:
        server.until_ready()
        yield server


def test_all_processes_have_the_least_rights(container: Bundle) -> None:
    processes = container.processes()
    assert len(processes) >= 3
    for pid in processes:
        found = fields(pid)
        assert (found["Seccomp"], found["NoNewPrivs"]) == ("2", "1")
        assert set(found["Uid"].split()) == {str(USER)}
        assert int(found["CapEff"], 16) == 0


def test_the_server_answers_and_writes_nowhere(container: Bundle) -> None:
    assert container.ask("example.org.") is not None
    mounts = [line.split() for line in Path(f"/proc/{container.first}/mountinfo").read_text().splitlines()]
    assert {mount[4] for mount in mounts if "rw" in mount[5].split(",")} <= {"/proc", "/dev/null", "/dev/full"}


def test_a_worker_is_started_again(container: Bundle) -> None:
    """The profile permits the system calls that a new worker needs."""
    worker = next(pid for pid in container.processes() if b"svcdns.worker" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(worker, signal.SIGKILL)
    until("the worker's end", lambda: not is_alive(worker))
    container.until_ready()
    assert container.ask("example.org.") is not None
    assert "Traceback" not in container.log
    assert os.strerror(container.refused) not in container.log
