"""A copy of this repository in a git repository of its own, for the tests of the release."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
IDENTITY = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"} | {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", "Test"), ("EMAIL", "test@example.org"))
}


class Checkout:
    """A copy of this repository, and the commands of the recipe."""

    def __init__(self, root: Path) -> None:
        """Copies all files that git knows or would add, with their present text, and commits them."""
        self.root = root
        names = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in filter(None, names.split("\0")):
            if (ROOT / name).exists():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, root / name, follow_symlinks=False)
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=start")

    def git(self, *arguments: str) -> str:
        """Returns what a git command prints."""
        return self.run("git", *arguments).stdout.strip()

    def release(self, version: str) -> subprocess.CompletedProcess[str]:
        """Runs `make release` with the environment of these tests."""
        folder = Path(sys.executable).parent
        return self.run(
            "make",
            "-o",
            ".venv/.installed-dev",
            f"BIN={folder}",
            "release",
            f"VERSION={version}",
            "DATE=2026-01-02",
            check=False,
        )

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a command in this checkout, and returns the result."""
        return subprocess.run(
            command, cwd=self.root, env=os.environ | IDENTITY, capture_output=True, text=True, check=check
        )
