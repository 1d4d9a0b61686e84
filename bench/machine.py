"""Describes the machine of a benchmark, and the versions of the servers that were measured."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

_VERSIONS = {
    "nsd": ("nsd", "-v"),
    "knot": ("knotd", "-V"),
    "unbound": ("unbound", "-V"),
    "dnsmasq": ("dnsmasq", "-v"),
    "coredns": (os.environ.get("COREDNS", ""), "-version"),
}


def environment(servers: list[str]) -> dict[str, Any]:
    """Returns the machine, the commit of this project, and the versions of the servers, by name."""
    return {
        "cpu": cpu_model(Path("/proc/cpuinfo").read_text()),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": commit(),
        "versions": {name: version(name) for name in servers if name in _VERSIONS},
    }


def cpu_model(text: str) -> str:
    """Returns the CPU model in the text of /proc/cpuinfo, or the machine type if the text has none."""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def commit() -> str:
    """Returns the git commit of this project, with `-dirty` if files were changed.

    Returns an empty text outside a checkout.
    """
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def version(name: str) -> str:
    """Returns the version of an installed server, from the output of its version option."""
    done = subprocess.run(_VERSIONS[name], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    found = re.search(r"\d+(\.\d+)+", done.stdout)
    return found[0] if found else ""
