"""svcdns as a container runs it: PID 1, an unprivileged user, no new privileges, and a read-only root file system."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

import svcdns
from tests.support.server import Server, is_alive, until

USER = 65532
NAMESPACES = ["unshare", "--pid", "--mount", "--fork"]
COREFILE = """
.:{port} {
    bind 127.0.0.1
    errors
    health 127.0.0.1:{health}
    ready 127.0.0.1:{ready}
    whoami
}
"""
# $1 is the new root, the rest are folders to have in it. Nothing in it can be written to.
ENTER = r"""
set -e
root=$1; shift
mount --make-rprivate /
mount -t tmpfs none "$root"
for folder in "$@"; do
  mkdir -p "$root$folder"
  mount --bind "$folder" "$root$folder"
  mount -o remount,bind,ro "$root$folder"
done
for link in /bin /lib /lib64 /sbin; do
  if [ -L "$link" ]; then ln -s "$(readlink "$link")" "$root$link"; fi
done
mkdir -p "$root/etc" "$root/proc" "$root/dev"
cp /etc/ld.so.cache "$root/etc/" 2>/dev/null || true
cp "$COREFILE" "$root/etc/Corefile"
mount -t proc proc "$root/proc"
touch "$root/dev/null" && mount --bind /dev/null "$root/dev/null"
mount -o remount,ro "$root"
exec chroot "$root" setpriv --reuid "$USER_ID" --regid "$USER_ID" --clear-groups --no-new-privs \
  "$PROGRAM" -m svcdns -conf /etc/Corefile
"""


def can_unshare() -> bool:
    """Returns True if this process may create namespaces: on Linux, as root."""
    try:
        return (
            os.geteuid() == 0
            and subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode == 0
        )
    except OSError:
        return False


class Container(Server):
    """A server that runs in its own namespaces, but uses the machine's network."""

    def launch(self) -> subprocess.Popen[bytes]:
        """Starts the server as PID 1 of its own namespace."""
        root = self.folder / "root"
        root.mkdir()
        folders = dict.fromkeys(
            str(Path(place).resolve())
            for place in (
                "/usr",
                sys.base_prefix,
                sys.prefix,
                sysconfig.get_path("purelib"),
                Path(svcdns.__file__).parents[1],
            )
        )
        top = [one for one in folders if not any(one != other and Path(one).is_relative_to(other) for other in folders)]
        with self.log_file.open("wb") as log:
            return subprocess.Popen(
                [*NAMESPACES, "sh", "-c", ENTER, "enter", str(root), *top],
                env={**os.environ, "COREFILE": str(self.corefile), "USER_ID": str(USER), "PROGRAM": sys.executable},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __exit__(self, *_: object) -> None:
        """Kills PID 1, which ends the namespace. `unshare` cannot kill it, because the program has changed its user."""
        if self.process.poll() is None:
            os.kill(self.first, signal.SIGKILL)
        self.process.wait()

    @property
    def first(self) -> int:
        """Returns the id, outside the container, of the container's PID 1."""
        return int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()[0])

    def status(self, field: str) -> list[str]:
        """Returns the words of a field in /proc/PID/status of the container's PID 1."""
        lines = Path(f"/proc/{self.first}/status").read_text().splitlines()
        return next(line.split()[1:] for line in lines if line.startswith(field + ":"))


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    if not can_unshare():
        pytest.skip("needs Linux, root and unshare")
    with Container(tmp_path_factory.mktemp("container"), COREFILE) as server:
        server.until_ready()
        yield server


def test_the_server_runs_as_pid_1_without_privileges(container: Container) -> None:
    assert container.status("NSpid")[-1] == "1"
    assert set(container.status("Uid")) == {str(USER)}
    assert container.status("NoNewPrivs") == ["1"]
    assert int(container.status("CapEff")[0], 16) == 0
    assert container.ask("example.org.") is not None


def test_nothing_can_be_written(container: Container) -> None:
    """/proc and the null device are the exceptions."""
    mounts = [line.split() for line in Path(f"/proc/{container.first}/mountinfo").read_text().splitlines()]
    writable = {mount[4] for mount in mounts if "rw" in mount[5].split(",")}
    assert writable <= {"/proc", "/dev/null"}


def test_orphans_are_reaped(container: Container) -> None:
    """An orphan becomes a child of PID 1, which must wait for it."""
    nsenter = ["nsenter", "--target", str(container.first), "--pid", "--mount"]
    command = [*nsenter, "sh", "-c", "(true &)"]
    subprocess.run(command, check=True, capture_output=True)
    until(
        "no zombie below PID 1",
        lambda: all(
            is_alive(int(pid))
            for pid in Path(f"/proc/{container.first}/task/{container.first}/children").read_text().split()
        ),
    )
    assert container.ask("example.org.") is not None


def test_a_killed_worker_comes_back(container: Container) -> None:
    children = Path(f"/proc/{container.first}/task/{container.first}/children").read_text().split()
    worker = next(int(pid) for pid in children if b"svcdns.worker" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(worker, signal.SIGKILL)
    until("the worker's end", lambda: not is_alive(worker))
    container.until_ready()
    assert container.ask("example.org.") is not None


@pytest.mark.skipif(not can_unshare(), reason="needs Linux, root and unshare")
def test_sigterm_ends_the_server(tmp_path: Path) -> None:
    """A kubelet sends SIGTERM to PID 1. The exit code is 0."""
    with Container(tmp_path, COREFILE) as container:
        container.until_ready()
        os.kill(container.first, signal.SIGTERM)
        assert container.process.wait(60) == 0
        assert "Traceback" not in container.log
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", container.ports["port"]))
