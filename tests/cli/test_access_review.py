"""Querying the API server for missing permissions."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from svcdns.cli.access_review import missing
from svcdns.cli.errors import CannotRun
from svcdns.inspection.permissions import Permission

SERVICES, SLICES = Permission("", "services"), Permission("discovery.k8s.io", "endpointslices")


class Reviews(BaseHTTPRequestHandler):
    """An API server that permits everything except the watch of Services."""

    def do_POST(self) -> None:
        """Answers a SelfSubjectAccessReview."""
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        wanted = review["spec"]["resourceAttributes"]
        review["status"] = {"allowed": wanted != {"verb": "watch", "group": "", "resource": "services"}}
        body = json.dumps(review).encode()
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Prints nothing."""


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Reviews)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    path = tmp_path / "kubeconfig"
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{"name": "a", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "a", "user": {"token": "secret"}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(config))
    yield str(path)
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_is_not_allowed_is_missing(kubeconfig: str) -> None:
    assert missing([SERVICES, SLICES], kubeconfig, "") == [("watch", SERVICES)]


def test_a_kubeconfig_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="absent"):
        missing([SERVICES], str(tmp_path / "absent"), "")
