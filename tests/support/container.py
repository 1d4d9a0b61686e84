"""A server in a container of runc, with the rights that deploy/ gives: a seccomp profile and a read-only file system.

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
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

import svcdns
from tests.support.server import Server

USER: Final = 65532
CAPABILITIES: Final = ["CAP_NET_BIND_SERVICE"]
NAMESPACES: Final = ("pid", "mount", "ipc", "uts")
PROFILE: Final = Path("/usr/share/containers/seccomp.json")
ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_numbers: Final = itertools.count(1)


def why_not_possible() -> str:
    """Returns why this machine cannot run such a container; empty if it can."""
    if os.geteuid() != 0 or shutil.which("runc") is None or not PROFILE.exists():
        return "needs root, runc, and the seccomp profile of golang-github-containers-common"
    return ""


def seccomp(refused: int, more: Collection[str] = ()) -> dict[str, Any]:
    """Returns the seccomp profile RuntimeDefault in the format of the OCI runtime specification.

    System calls that the profile does not name fail with the error number `refused`. The calls `more` are permitted.
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
        copied = {key: rule[key] for key in ("action", "args", "errnoRet") if rule.get(key)}
        rules.append({"names": [name for name in rule["names"] if name not in more], **copied})
    if more:
        rules.append({"names": list(more), "action": "SCMP_ACT_ALLOW"})
    return {"defaultAction": profile["defaultAction"], "defaultErrnoRet": refused, "syscalls": rules}


def folders() -> list[str]:
    """Returns the folders of the machine that the program needs."""
    needed = ("/usr", sys.base_prefix, sys.prefix, sysconfig.get_path("purelib"), Path(svcdns.__file__).parents[1])
    places = dict.fromkeys(str(Path(place).resolve()) for place in needed)
    return [one for one in places if not any(one != other and Path(one).is_relative_to(other) for other in places)]


def bound(source: str, destination: str) -> dict[str, Any]:
    """Returns the mount of a folder or file of the machine, which the container can only read."""
    return {"destination": destination, "source": source, "type": "bind", "options": ["bind", "ro", "nosuid"]}


def fields(pid: int) -> dict[str, str]:
    """Returns the fields of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def writable(pid: int) -> set[str]:
    """Returns the places at which a process can write, by its mounts."""
    mounts = [line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    return {mount[4] for mount in mounts if "rw" in mount[5].split(",")}


def specification(
    root: Path,
    mounts: list[dict[str, Any]],
    arguments: list[str],
    environ: list[str],
    refused: int,
    *,
    sets: Sequence[str] = ("bounding",),
    namespaces: Sequence[str] = NAMESPACES,
) -> dict[str, Any]:
    """Returns the OCI configuration of a container. `sets` are the capability sets that contain NET_BIND_SERVICE."""
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(root), "readonly": True},
        "process": {
            "cwd": "/",
            "user": {"uid": USER, "gid": USER},
            "args": arguments,
            "env": environ,
            "noNewPrivileges": True,
            "capabilities": dict.fromkeys(sets, CAPABILITIES),
        },
        "mounts": [
            {"destination": "/proc", "source": "proc", "type": "proc"},
            {"destination": "/dev", "source": "tmpfs", "type": "tmpfs", "options": ["nosuid", "mode=755", "ro"]},
            *mounts,
        ],
        "linux": {"namespaces": [{"type": kind} for kind in namespaces], "seccomp": seccomp(refused)},
    }


def run_container(folder: Path, config: dict[str, Any], log_file: Path) -> subprocess.Popen[bytes]:
    """Writes an OCI bundle into `folder`, and starts its container. The file `pid` then has the id of its PID 1."""
    (folder / "config.json").write_text(json.dumps(config))
    command = ["runc", f"--root={folder}/state", "run", f"--bundle={folder}", "--pid-file", str(folder / "pid")]
    with log_file.open("ab") as log:
        return subprocess.Popen(
            [*command, f"svcdns-{os.getpid()}-{next(_numbers)}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


class Bundle(Server):
    """A server that runc has started from the Python of this machine. The server uses the machine's network."""

    refused = errno.EPERM

    @property
    def command_line(self) -> tuple[str, ...]:
        """Returns the command that starts the program."""
        return (sys.executable, "-m", "svcdns")

    @property
    def environ(self) -> list[str]:
        """Returns the variables of the process, as NAME=VALUE."""
        return ["PATH=/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE=1"]

    def launch(self) -> subprocess.Popen[bytes]:
        """Writes an OCI bundle, and starts its container."""
        return run_container(self.folder, self.configuration(), self.log_file)

    def configuration(self) -> dict[str, Any]:
        """Returns the OCI configuration of the container."""
        root, mounts = self.files()
        arguments = [*self.command_line, "-conf", "/etc/Corefile"]
        return specification(root, mounts, arguments, self.environ, self.refused)

    def files(self) -> tuple[Path, list[dict[str, Any]]]:
        """Returns the folder that is the container's root, and the folders of the machine that it has in addition."""
        root = self.folder / "root"
        (root / "etc").mkdir(parents=True)
        shutil.copy(self.corefile, root / "etc" / "Corefile")
        shutil.copy("/etc/ld.so.cache", root / "etc")
        for link in ("bin", "lib", "lib64", "sbin"):
            (root / link).symlink_to(f"usr/{link}")
        return root, [bound(one, one) for one in folders()]

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
