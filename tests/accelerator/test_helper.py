"""The socket of `svcdns accelerate`, with files in place of maps."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from svcdns.accelerator import helper as helper_module
from svcdns.accelerator.helper import MAX_NEW, NEW_PERIOD, Attachment, Helper, SocketTaken, possible_cpus
from svcdns.accelerator.interface import Interface, UnusableInterface
from svcdns.accelerator.layout import MAPS
from svcdns.accelerator.protocol import CHANGED, REPLACED, AcceleratorError, decode_greeting
from tests.support.world import Clock


class FileAttachment(Attachment):
    """An attachment whose maps are files in memory. It raises `failure` if there is one."""

    def __init__(self) -> None:
        super().__init__("eth0")
        self.attached, self.failure, self.changed = 0, "", ""

    def renew(self) -> tuple[Interface, dict[str, int]]:
        if self.failure:
            raise UnusableInterface(self.failure)
        self.attached += 1
        return Interface("eth0", 7, ("10.1.2.3",)), {name: os.memfd_create(name) for name in MAPS}

    def detach(self) -> None:
        self.attached = 0

    def change(self) -> str:
        return self.changed


@pytest.fixture
def attachment() -> FileAttachment:
    return FileAttachment()


@pytest.fixture
def helper(attachment: FileAttachment, clock: Clock, tmp_path: Path) -> Iterator[Helper]:
    made = Helper(str(tmp_path / "socket"), attachment, [os.geteuid()], clock)
    yield made
    made.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(10)
    connection.connect(str(path / "socket"))
    return connection


def test_a_connection_gets_the_maps(helper: Helper, attachment: FileAttachment, tmp_path: Path) -> None:
    with connect(tmp_path) as connection:
        helper.serve_once()
        message, descriptors, _, _ = socket.recv_fds(connection, 16384, 16)
        greeting = decode_greeting(message)
        assert (greeting.interface, greeting.ifindex, greeting.addresses) == ("eth0", 7, ("10.1.2.3",))
        names = [str(Path(f"/proc/self/fd/{descriptor}").readlink()) for descriptor in descriptors]
        assert names == [f"/memfd:{name} (deleted)" for name in MAPS]
        for descriptor in descriptors:
            os.close(descriptor)
        assert attachment.attached == 1
    helper.serve_once()
    assert attachment.attached == 0


def test_a_second_connection_ends_the_first(helper: Helper, attachment: FileAttachment, tmp_path: Path) -> None:
    with connect(tmp_path) as first, connect(tmp_path) as second:
        helper.serve_once()
        first.recv(16384)
        helper.serve_once()
        assert (first.recv(100), first.recv(100)) == (REPLACED, b"")
        assert decode_greeting(second.recv(16384)).interface == "eth0"
        assert attachment.attached == 2


def test_a_change_of_the_interface_ends_the_connection(
    helper: Helper,
    attachment: FileAttachment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A message about something else changes nothing, nor does a change without a connection."""
    receiver, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    receiver.setblocking(False)
    monkeypatch.setattr(helper, "_changes", receiver)
    with receiver, sender, connect(tmp_path) as connection, caplog.at_level("INFO"):
        attachment.changed = "there is no interface eth0 here"
        sender.send(b"message")
        helper.serve_once()
        assert attachment.attached == 1
        connection.recv(16384)
        attachment.changed = ""
        sender.send(b"message")
        helper.serve_once()
        assert attachment.attached == 1
        attachment.changed = "there is no interface eth0 here"
        sender.send(b"message")
        sender.send(b"message")
        helper.serve_once()
        assert attachment.attached == 0
        assert (connection.recv(100), connection.recv(100)) == (CHANGED, b"")
    assert caplog.messages[-1] == 'accelerator detached reason="there is no interface eth0 here"'


def test_a_connection_that_has_ended_takes_nothing_over(
    helper: Helper, attachment: FileAttachment, tmp_path: Path
) -> None:
    with connect(tmp_path) as owner:
        helper.serve_once()
        owner.recv(16384)
        with pytest.raises(SocketTaken, match="does another"):
            Helper(str(tmp_path / "socket"), attachment)
        helper.serve_once()
        owner.setblocking(False)
        with pytest.raises(BlockingIOError):
            owner.recv(100)
        assert attachment.attached == 1


def test_a_worker_that_is_gone_before_it_gets_the_maps(
    helper: Helper, attachment: FileAttachment, tmp_path: Path
) -> None:
    connect(tmp_path).close()
    helper.serve_once()
    assert attachment.attached == 0


def test_a_failure_is_sent_and_logged_once(
    helper: Helper, attachment: FileAttachment, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    attachment.failure = "there is no interface eth0 here"
    for _ in range(2):
        with connect(tmp_path) as connection:
            helper.serve_once()
            with pytest.raises(AcceleratorError, match="there is no interface eth0 here"):
                decode_greeting(connection.recv(16384))
            assert connection.recv(100) == b""
    assert len(caplog.records) == 1
    attachment.failure = ""
    assert helper.check() == Interface("eth0", 7, ("10.1.2.3",))
    assert attachment.attached == 0


def test_only_chosen_users_become_the_owner(
    attachment: FileAttachment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another user gets no maps, and takes nothing over. The log has one line for each user."""
    uids = iter([1000, 0, 1001, 1001])
    monkeypatch.setattr(helper_module, "peer", lambda _connection: (7, next(uids)))
    helper = Helper(str(tmp_path / "socket"), attachment, [1000])
    with connect(tmp_path) as first:
        helper.serve_once()
        assert decode_greeting(first.recv(16384)).interface == "eth0"
        with connect(tmp_path) as root:
            helper.serve_once()
            assert decode_greeting(root.recv(16384)).interface == "eth0"
            assert first.recv(100) == REPLACED
            for _ in range(2):
                with connect(tmp_path) as other:
                    helper.serve_once()
                    with pytest.raises(AcceleratorError, match="uid 1001 may not write replies"):
                        decode_greeting(other.recv(16384))
                    assert other.recv(100) == b""
            root.setblocking(False)
            with pytest.raises(BlockingIOError):
                root.recv(100)
    helper.close()
    assert caplog.text.count("uid 1001 may not write replies") == 1


def test_a_worker_that_connects_in_a_loop(
    helper: Helper, attachment: FileAttachment, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that keeps descriptors keeps the memory of its maps, so only a few connections get maps."""
    for turn in range(MAX_NEW + 3):
        with connect(tmp_path) as connection:
            helper.serve_once()
            message = connection.recv(16384)
            assert (b"more than 4 workers" in message) == (turn >= MAX_NEW)
        if turn < MAX_NEW:
            helper.serve_once()
    assert caplog.text.count("more than 4 workers") == 1
    clock.turn(NEW_PERIOD)
    with connect(tmp_path) as connection:
        helper.serve_once()
        assert decode_greeting(connection.recv(16384)).interface == "eth0"


def test_a_system_without_messages_about_interfaces(
    attachment: FileAttachment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> NoReturn:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(helper_module, "open_changes", refuse)
    with pytest.raises(AcceleratorError, match="changes of the interface cannot be seen"):
        Helper(str(tmp_path / "socket"), attachment)
    monkeypatch.undo()
    Helper(str(tmp_path / "socket"), attachment).close()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
def test_a_lack_of_descriptors(
    helper: Helper,
    attachment: FileAttachment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    """The helper waits, and accepts the connection later."""

    def accept() -> NoReturn:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(helper_module, "PAUSE", 0.001)
    listener = helper._listener
    with connect(tmp_path) as connection:
        monkeypatch.setattr(helper, "_listener", SimpleNamespace(fileno=listener.fileno, accept=accept))
        for _ in range(2):
            helper.serve_once()
        monkeypatch.setattr(helper, "_listener", listener)
        helper.serve_once()
        assert decode_greeting(connection.recv(16384)).interface == "eth0"
    assert caplog.text.count("a connection cannot be accepted") == 1


def test_the_socket_of_a_helper_that_runs_is_taken(helper: Helper, attachment: FileAttachment, tmp_path: Path) -> None:
    with pytest.raises(SocketTaken, match="does another"):
        Helper(str(tmp_path / "socket"), attachment)


def test_the_file_of_a_helper_that_died_is_no_obstacle(attachment: FileAttachment, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(tmp_path / "socket"))
    Helper(str(tmp_path / "socket"), attachment).close()


def test_a_socket_in_a_folder_that_does_not_exist(attachment: FileAttachment, tmp_path: Path) -> None:
    with pytest.raises(SocketTaken, match="cannot be opened: No such file"):
        Helper(str(tmp_path / "missing" / "socket"), attachment)


@pytest.mark.parametrize(("text", "expected"), [("0\n", 1), ("0-3\n", 4), ("0-1,4-7\n", 8)])
def test_possible_cpus(tmp_path: Path, text: str, expected: int) -> None:
    (tmp_path / "possible").write_text(text)
    assert possible_cpus(tmp_path / "possible") == expected
