"""The conformance suite against svcdns with a real API server, which the suite changes."""

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


def test_no_required_check_fails(tmp_path: Path) -> None:
    kubeconfig = os.environ["KUBECONFIG"]
    with Server(
        tmp_path, COREFILE.replace("KUBECONFIG", kubeconfig).replace("loop\n", "forward . 127.0.0.1:9\n")
    ) as server:
        server.until_ready()
        command = [sys.executable, "-m", "svcdns", "conformance", "--server", f"127.0.0.1:{server.ports['port']}"]
        command += ["--kubeconfig", kubeconfig, "--bound", "5", "--output", "json"]
        run = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    results = json.loads(run.stdout)
    assert "changes" in run.stdout
    assert results
