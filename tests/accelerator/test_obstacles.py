"""The line that names the cause of a refusal."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from svcdns.accelerator.obstacles import Rights, explain, explain_rejection, read_rights

BPF, NET_ADMIN, SYS_ADMIN = 1 << 39, 1 << 12, 1 << 21


def rights(effective: int = BPF | NET_ADMIN, *, seccomp: bool = False, user_namespace: bool = False) -> Rights:
    return Rights(effective, seccomp, user_namespace)


@pytest.mark.parametrize(
    ("number", "having", "text"),
    [
        (errno.EPERM, rights(NET_ADMIN), "missing capabilities: BPF"),
        (errno.EPERM, rights(0), "missing capabilities: BPF, NET_ADMIN"),
        (errno.EPERM, rights(BPF, seccomp=True), "missing capabilities: NET_ADMIN"),
        (errno.EPERM, rights(user_namespace=True), "hostUsers: true"),
        (errno.EPERM, rights(seccomp=True), "seccomp profile"),
        (errno.EACCES, rights(), "security module or kernel lockdown"),
        (errno.EPERM, rights(SYS_ADMIN), "security module or kernel lockdown"),
        (errno.ENOMEM, rights(), "memory limit"),
        (errno.ENOSYS, rights(), "no system call bpf(2)"),
        (errno.ENOSYS, rights(seccomp=True), "seccomp profile"),
        (errno.EINVAL, rights(), "bpf(2): Invalid argument"),
    ],
)
def test_causes(number: int, having: Rights, text: str) -> None:
    assert text in explain(OSError(number, "Invalid argument"), having, "6.12.9-generic")


def test_an_error_of_a_file_names_the_file() -> None:
    assert explain(FileNotFoundError(errno.ENOENT, "No such file", "/sys/cpu"), rights()) == "/sys/cpu: No such file"


@pytest.mark.parametrize(
    ("release", "is_old"), [("5.15.0-91", True), ("6.5.1", True), ("6.6.0", False), ("10.1", False)]
)
def test_old_kernels(release: str, is_old: bool) -> None:
    assert ("is too old" in explain(OSError(errno.EINVAL, "Invalid argument"), rights(), release)) is is_old
    rejection = explain_rejection(OSError("the kernel rejects the program: R2 is invalid"), release)
    assert "the kernel rejects the program: R2 is invalid" in rejection
    assert rejection.startswith(f"Linux {release} is too old: ") is is_old


def test_rights_are_read_from_proc(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tx y\nCapEff:\t0000008000001000\nSeccomp:\t2\nSeccomp_filters:\t1\n")
    (tmp_path / "uid_map").write_text("         0     100000      65536\n")
    assert read_rights(tmp_path) == rights(seccomp=True, user_namespace=True)
    (tmp_path / "uid_map").write_text("         0          0 4294967295\n")
    assert not read_rights(tmp_path).user_namespace
