"""A network namespace for clients that can only query port 53, and a mount namespace with its own /etc/resolv.conf.

Both need root (CAP_SYS_ADMIN), and a kernel that permits new namespaces.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_FILES = ("resolv.conf", "nsswitch.conf")


def why_unavailable() -> str:
    """Returns the reason why this process cannot make the namespaces, or an empty text if it can."""
    try:
        done = subprocess.run(
            ["unshare", "--net", "--mount", "sh", "-c", "ip link set lo up && mount --bind /etc/passwd /etc/group"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        return f"namespaces need `unshare` of util-linux: {error}"
    reason = done.stderr.strip().replace("\n", "; ")
    return "" if done.returncode == 0 else f"this machine does not permit network and mount namespaces: {reason}"


@contextmanager
def own_network() -> Iterator[None]:
    """Moves the calling thread into a new network namespace with a loopback interface, and back at the end.

    Processes and threads that the calling thread starts meanwhile are in the new namespace. Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _checked(libc.unshare(_CLONE_NEWNET))
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            _checked(libc.setns(before, _CLONE_NEWNET))
    finally:
        os.close(before)


def _checked(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def with_name_servers(folder: Path, addresses: Sequence[str], command: Sequence[str]) -> list[str]:
    """Returns the command line that runs `command` with these name servers and the search list of a Pod.

    The files are written to `folder`, and mounted over those in /etc.
    """
    search = "search default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    (folder / "resolv.conf").write_text("".join(f"nameserver {address}\n" for address in addresses) + search)
    (folder / "nsswitch.conf").write_text("hosts: files dns\n")
    binds = (f"mount --bind {folder}/{name} /etc/{name}" for name in _FILES if Path("/etc", name).exists())
    return ["unshare", "--mount", "sh", "-c", " && ".join([*binds, 'exec "$0" "$@"']), *command]
