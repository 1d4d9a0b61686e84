"""`svcdns probe` with a real API server, whose objects it changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.test_api_server import COREFILE
from tests.support.server import Server

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


def test_both_kinds_of_changes_are_measured(tmp_path: Path) -> None:
    kubeconfig = os.environ["KUBECONFIG"]
    corefile = COREFILE.replace("KUBECONFIG", kubeconfig).replace("loop\n", "forward . 127.0.0.1:9\n")
    with Server(tmp_path, corefile) as server:
        server.until_ready()
        command = [sys.executable, "-m", "svcdns", "probe", "--server", f"127.0.0.1:{server.ports['port']}"]
        command += ["--kubeconfig", kubeconfig, "--namespace", "default", "--every", "0.5", "--seconds", "4"]
        run = subprocess.run([*command, "--output", "json"], capture_output=True, text=True, timeout=170, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    found = {one["kind"]: one for one in json.loads(run.stdout)["results"]}
    assert sorted(found) == ["endpoint", "query", "service"]
    assert all(one["count"] and not one["failures"] for one in found.values())
