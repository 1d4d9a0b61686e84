"""The server in a container of runc, with the rights that deploy/ gives (tests/support/container.py)."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.container import USER, Bundle, fields, why_not_possible, writable
from tests.support.server import is_alive, until

pytestmark = pytest.mark.integration

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


class BundleWithoutCall(Bundle):
    """A server for which refused system calls fail with ENOSYS, as on a kernel without these calls."""

    refused = errno.ENOSYS


@pytest.fixture(scope="module", params=[Bundle, BundleWithoutCall], ids=["EPERM", "ENOSYS"])
def container(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    if reason := why_not_possible():
        pytest.skip(reason)
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
    assert writable(container.first) <= {"/proc", "/dev/null", "/dev/full"}


def test_a_worker_is_started_again(container: Bundle) -> None:
    """The profile permits the system calls that a new worker needs."""
    worker = next(pid for pid in container.processes() if b"svcdns.worker" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(worker, signal.SIGKILL)
    until("the worker's end", lambda: not is_alive(worker))
    container.until_ready()
    assert container.ask("example.org.") is not None
    assert "Traceback" not in container.log
    assert os.strerror(container.refused) not in container.log
