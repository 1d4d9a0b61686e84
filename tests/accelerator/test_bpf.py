"""The calls of bpf(2), as far as they need no capability."""

from __future__ import annotations

import platform
import sys

import pytest

from svcdns.accelerator import bpf


def test_machines_with_an_unknown_number_of_the_system_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "mips")
    with pytest.raises(bpf.UnsupportedMachine, match="mips"):
        bpf.check_machine()


def test_big_endian_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "byteorder", "big")
    with pytest.raises(bpf.UnsupportedMachine, match="little-endian"):
        bpf.check_machine()


def test_an_error_of_the_kernel() -> None:
    with pytest.raises(OSError, match=r"."):
        bpf.replace(2**31 - 1, 2**31 - 1)
