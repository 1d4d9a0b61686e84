"""A real API server for tests, with faults, and a small client. SVCDNS_TEST_APISERVER names the binary of the API
server.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from tests.support.server import until


class Api:
    """A small client that writes objects, with the kubeconfig's credentials."""

    def __init__(self, path: str) -> None:
        """Reads the current context of a kubeconfig."""
        config = yaml.safe_load(Path(path).read_text())
        named = {kind: {e["name"]: e[kind[:-1]] for e in config[kind]} for kind in ("clusters", "users", "contexts")}
        context = named["contexts"][config["current-context"]]
        cluster, user = named["clusters"][context["cluster"]], named["users"][context["user"]]
        self.server, self.headers = cluster["server"], {"Content-Type": "application/json"}
        if "token" in user:
            self.headers["Authorization"] = "Bearer " + user["token"]
        self.tls = ssl.create_default_context(cafile=cluster.get("certificate-authority"))
        if "certificate-authority-data" in cluster:
            self.tls.load_verify_locations(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        if "client-certificate" in user:
            self.tls.load_cert_chain(user["client-certificate"], user["client-key"])

    def __call__(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> None:
        """Sends one request. Raises an exception for an HTTP error."""
        self._send(method, path, content)

    def get(self, path: str) -> Any:
        """Returns the object at a path. Raises an exception for an HTTP error."""
        return json.loads(self._send("GET", path, None))

    def _send(self, method: str, path: str, content: Mapping[str, Any] | None) -> bytes:
        data = json.dumps(content).encode() if content is not None else None
        request = urllib.request.Request(self.server + path, data, self.headers, method=method)
        with urllib.request.urlopen(request, context=self.tls, timeout=10) as response:
            body: bytes = response.read()
            return body


class Lab:
    """A running API server. `kubeconfig` is a copy of its kubeconfig. Tests may change the copy."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        """Starts the API server on loopback ports that the kernel chooses."""
        self.folder = folder
        self.folder.mkdir()
        self.kubeconfig = folder / "kubeconfig"
        self._log = folder / "log"
        self._arguments = arguments
        self._port, self._pki = "0", folder / "pki"
        self.start()
        shutil.copy(self.given, self.kubeconfig)

    def start(self) -> None:
        """Starts the API server again after a stop, with the same data and port."""
        command = [
            os.environ["SVCDNS_TEST_APISERVER"],
            "--port",
            self._port,
            "--admin-port",
            "0",
            "--token",
            "lab-token",
        ]
        command += ["--data-dir", str(self.folder / "data"), "--cert-dir", str(self._pki), *self._arguments]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        until(
            "the API server",
            lambda: "serving https" in self._log.read_text(errors="replace") or self.process.poll() is not None,
        )
        text = self._log.read_text(errors="replace")
        assert self.process.poll() is None, text
        self._port = re.findall(r"labapi: serving https://127\.0\.0\.1:(\d+)", text)[0]
        self._admin = re.findall(r"labapi: admin (\S+)", text)[0]

    @property
    def given(self) -> Path:
        """Returns the kubeconfig that the API server wrote."""
        return self._pki / "kubeconfig"

    @property
    def api(self) -> Api:
        """Returns a client with the credentials of the server's own kubeconfig."""
        return Api(str(self.given))

    def admin(self, what: str, **options: str) -> None:
        """Makes the API server do `what`: `compact`, `expire`, `closewatches`, `deny`, `tokens` or `fault`."""
        url = f"{self._admin}/{what}?{urllib.parse.urlencode(options)}"
        with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=10) as response:
            response.read()

    def settle(self) -> None:
        """Waits until watches stay open. A compaction closes them after a second, and briefly refuses new watches."""
        for resource in ("/api/v1/namespaces", "/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices"):
            until(f"watches of {resource}", lambda: self._lasts(resource))  # noqa: B023

    def _lasts(self, resource: str) -> bool:
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            self.api("GET", f"{resource}?watch=true&timeoutSeconds=2")
        return time.monotonic() - begun >= 1.5

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def use_new_authority(self) -> None:
        """Makes the next start create certificates of another authority."""
        self._pki = self.folder / "other-pki"

    def __enter__(self) -> Self:
        """Returns itself. The API server is already running."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kills the API server, even if a signal has stopped it."""
        self.process.send_signal(signal.SIGCONT)
        self.kill()
