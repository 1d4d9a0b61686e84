"""The sockets that a start binds before anything else, and how they are passed on to an isolated interpreter."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from svcdns.supervisor import early_sockets
from svcdns.supervisor.early_sockets import VARIABLE, EarlySocket, bind, leave, received
from svcdns.supervisor.sockets import Sockets
from tests.support.server import free_port

PROGRAM = """
import os, sys
from svcdns.supervisor.early_sockets import bind, leave, received
if len(sys.argv) > 1:
    leave(bind([("127.0.0.1", int(sys.argv[1]), "udp")]))
    os.execv(sys.executable, [sys.executable, sys.argv[0]])
print(received(), received())
"""


def options(sock: socket.socket) -> list[object]:
    """Returns the options of a socket that this module sets."""
    levels = [(socket.SOL_SOCKET, socket.SO_REUSEPORT), (socket.SOL_SOCKET, socket.SO_RCVBUF)]
    levels += [(socket.IPPROTO_IP, 10), (socket.IPPROTO_IP, 8)] if sock.family == socket.AF_INET else []
    return [sock.getsockname(), sock.getblocking(), *(sock.getsockopt(*which) for which in levels)]


@pytest.mark.parametrize("host", ["127.0.0.1", ""], ids=["an address", "all addresses"])
def test_the_sockets_are_as_those_that_are_opened_later(host: str) -> None:
    """Early sockets have the same fields and options as sockets that the supervisor opens for control."""
    addresses = [(host, free_port(), protocol) for protocol in ("udp", "tcp")]
    early, later = Sockets(print), Sockets(print)
    found = early.adopt(bind(addresses))
    assert early.change(addresses, 1) == ([], [])
    shown = [(one.fields(), options(one.sock)) for one in found]
    early.close(found)
    new, _ = later.change(addresses, 1)
    assert [(one.fields(), options(one.sock)) for one in new] == shown
    later.close(new)


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_nothing_is_bound_if_an_address_is_in_use(protocol: str) -> None:
    """If another socket has one of the addresses, no address is bound."""
    free, taken = ("127.0.0.1", free_port(), "tcp"), ("127.0.0.1", free_port(), protocol)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM) as other:
        other.bind(taken[:2])
        assert bind([free, taken]) == []
    with socket.create_server(free[:2]):
        pass


def test_a_program_inherits_the_sockets(tmp_path: Path) -> None:
    """The program that the process executes gets the sockets once. Then the variable is removed."""
    (tmp_path / "program.py").write_text(PROGRAM)
    port = free_port()
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py"), str(port)], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(early_sockets.__file__).parents[2])},
    )  # fmt: skip
    first, second = done.stdout.strip().rsplit(" ", 1)
    assert first.startswith(f"[('127.0.0.1', {port}, 'udp', 4, ")
    assert second == "[]"


@pytest.mark.parametrize("value", ["", "x", "1/127.0.0.1/53/udp/4/0", "{pid}/127.0.0.1/53/udp/4/99999", "{pid}/a"])
def test_a_variable_that_another_program_has_set(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of another process, or with another content, is ignored, and not passed on to children."""
    monkeypatch.setenv(VARIABLE, value.format(pid=os.getpid()))
    assert received() == []
    assert VARIABLE not in os.environ


def test_the_sockets_are_passed_on_only_if_they_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children of the supervisor do not inherit the sockets."""
    monkeypatch.delenv(VARIABLE, raising=False)
    sockets: list[EarlySocket] = bind([("127.0.0.1", free_port(), "udp")])
    descriptor = sockets[0][4]
    assert not os.get_inheritable(descriptor)
    leave(sockets)
    assert os.get_inheritable(descriptor)
    assert received() == sockets
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)
