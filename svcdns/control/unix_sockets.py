"""Unix sockets of the control process. Only the user of the server may connect to them."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import Final

from svcdns.plugin_api.settings import UNIX

MODE: Final = 0o600
BACKLOG: Final = 16


def path_of(host: str) -> Path | None:
    """Returns the path of the Unix socket that the host of an address stands for, or None for any other host."""
    return Path(host.removeprefix(UNIX)) if host.startswith(UNIX) else None


class UnixListener(socket.socket):
    """A listening Unix socket. `close` also removes its file, unless another process has replaced the file."""

    __slots__ = ("_inode", "_path")

    def __init__(self, path: Path) -> None:
        """Replaces another socket at `path` in one step. Raises OSError, also for a file that is not a socket.

        Creates the folder of the socket if only this folder is missing.
        The other socket is that of a killed server, or of a control process that this one replaces.
        """
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise FileExistsError(None, "the file exists and is not a socket")
        path.parent.mkdir(mode=0o755, exist_ok=True)
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        new = Path(f"{path}.{os.getpid()}")
        self._path, self._inode = path, (0, 0)
        try:
            new.unlink(missing_ok=True)
            self.setblocking(False)
            os.fchmod(self.fileno(), MODE)  # on Linux, the file gets this mode when it is made
            self.bind(str(new))
            new.chmod(MODE)
            self.listen(BACKLOG)
            self._inode = _inode(new)
            new.rename(path)
        except BaseException:
            self.close()
            new.unlink(missing_ok=True)
            raise

    def close(self) -> None:
        """Closes the socket and removes its file."""
        if self.fileno() >= 0:
            with contextlib.suppress(OSError):
                if _inode(self._path) == self._inode:
                    self._path.unlink()
        super().close()


def _inode(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino
