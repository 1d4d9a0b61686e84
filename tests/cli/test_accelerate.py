"""`svcdns accelerate` as a user calls it, without a kernel that attaches anything."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from svcdns.accelerator.helper import Attachment, Helper
from svcdns.accelerator.interface import Interface
from svcdns.accelerator.protocol import AcceleratorError
from svcdns.cli import commands

ETH0 = Interface("eth0", 2, ("10.1.2.3", "fd00::3"))


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The command is at home in a process of its own: its handlers of signals and log lines are removed."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    logger = logging.getLogger("svcdns")
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.NOTSET)


def refuse(_self: Attachment) -> tuple[Interface, dict[str, int]]:
    raise AcceleratorError("no permission for bpf(2), missing capabilities: BPF")


def terminate(_self: Helper) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def run(path: Path, *arguments: str) -> int:
    return commands.run(["accelerate", "--socket", str(path / "socket"), *arguments])


def test_sigterm_ends_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Attachment, "renew", lambda _self: (ETH0, {}))
    monkeypatch.setattr(Helper, "serve_once", terminate)
    assert run(tmp_path) == 0
    line = f"[INFO] accelerator ready interface=eth0 addresses=10.1.2.3,fd00::3 socket={tmp_path}/socket\n"
    assert capfd.readouterr().out == line


def test_another_system_than_linux(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert run(tmp_path) == 2
    assert capfd.readouterr().err.strip().endswith("the accelerator needs Linux")


def test_a_refusal_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Attachment, "renew", refuse)
    assert run(tmp_path) == 2
    assert capfd.readouterr() == ("", "Error: no permission for bpf(2), missing capabilities: BPF\n")


def test_the_command_can_stay_after_a_refusal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Attachment, "renew", refuse)
    monkeypatch.setattr(Helper, "serve_once", terminate)
    assert run(tmp_path, "--stay") == 0
    assert capfd.readouterr().out == (
        '[ERROR] accelerator not available error="no permission for bpf(2), missing capabilities: BPF"\n'
    )
