"""The command `svcdns conformance` against the real server, as docs/conformance.md shows it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import Server

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "zones" / "cluster.yaml"
COREFILE = f"""
cluster.local:{{port}} in-addr.arpa:{{port}} ip6.arpa:{{port}} {{
    bind 127.0.0.1
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        manifests {CLUSTER}
        pods insecure
        ttl 30
    }}
    forward . 127.0.0.1:9
    cache 30
    loadbalance
}}
"""

pytestmark = pytest.mark.slow


def test_the_checks_that_fail_are_those_on_the_page(tmp_path: Path) -> None:
    """docs/conformance.md lists the checks that fail. None of them is required."""
    page = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    table = page.partition("## What it says about CoreDNS")[2].partition("## The checks")[0]
    with Server(tmp_path, COREFILE) as server:
        command = [sys.executable, "-m", "svcdns", "conformance", "--server", f"127.0.0.1:{server.ports['port']}"]
        command += ["--manifests", str(CLUSTER), "--output", "json"]
        run = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    failed = {check["id"] for check in json.loads(run.stdout)["checks"] if check["outcome"] == "failed"}
    assert failed == set(re.findall(r"^\| `([\w@-]+)` \|.*\| fails \|$", table, re.MULTILINE))
