"""The committed programs for the kernel are what the compiler makes of their sources."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
OBJECTS = ("svcdns/accelerator/answers.bpf.o", "bench/echo.bpf.o")


@pytest.mark.skipif(not shutil.which("clang-14"), reason="clang-14 is not installed here")
def test_objects_equal_their_sources(tmp_path: Path) -> None:
    for name in OBJECTS:
        (tmp_path / name).parent.mkdir(parents=True)
    subprocess.run(["make", "-s", "accelerator-object", f"OBJECTS={tmp_path}"], cwd=ROOT, check=True)
    for name in OBJECTS:
        assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes(), name
