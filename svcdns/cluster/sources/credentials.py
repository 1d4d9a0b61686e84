"""How to reach the API server: address, TLS and headers, from the Corefile's options, a kubeconfig or the Pod's own files.

The official client's `kubernetes.aio` reads kubeconfigs and the files of a Pod and runs exec plugins. It is imported when first needed,
because it costs more time and memory than the rest of the program; none of its requests, models or watches is used. A plain `endpoint`
does without it.

Rules: everything is read again before a request, at most every REFRESH seconds, so that a rotated token, a renewed certificate or an edited
kubeconfig takes effect without a restart; what an exec plugin gave is kept until it is refused or too old.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from svcdns.cluster.sources.options import SourceError, WatchOptions
from svcdns.telemetry.clock import Clock

REFRESH = 5.0
"""Seconds after which files are read again."""
EXEC_REFRESH = 600.0
"""Seconds after which an exec plugin is run again, if it was not refused before."""
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True)
class Access:
    """Where requests go (`url` without a slash at its end) and what goes with them."""

    url: str
    headers: Mapping[str, str]
    ssl: ssl.SSLContext | None = None
    server_hostname: str | None = None
    proxy: str | None = None

    @property
    def host(self) -> str:
        """Host and port, the label of metrics and log lines."""
        return urlsplit(self.url).netloc

    @property
    def local(self) -> bool:
        """True for `localhost` and loopback addresses."""
        name = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return name == "localhost"


class Credentials:
    """The access that `options` lead to, kept up to date."""

    def __init__(self, options: WatchOptions, *, clock: Clock, log: logging.Logger, service_account: str = SERVICE_ACCOUNT) -> None:
        """`service_account` is the folder that a Pod finds its token and CA in."""
        self._options, self._clock, self._log, self._service_account = options, clock, log, service_account
        self._access: Access | None = None
        self._read_at = 0.0
        self._refresh = REFRESH
        self._contexts: dict[tuple[object, ...], ssl.SSLContext] = {}

    async def access(self) -> Access:
        """The access to use for a request now. Raises SourceError."""
        now = self._clock()
        if self._access is None or now - self._read_at >= self._refresh:
            self._access = await self._read()
            self._read_at = now
        return self._access

    async def renew(self) -> bool:
        """Reads everything again; True if it has changed. Raises SourceError."""
        before = self._access
        self._access = None
        return await self.access() != before

    async def _read(self) -> Access:
        if self._options.kubeconfig:
            return await self._kubeconfig()
        if self._options.endpoint:
            return self._endpoint()
        return self._in_cluster()

    def _endpoint(self) -> Access:
        options = self._options
        url = options.endpoint if "://" in options.endpoint else f"{'https' if options.tls else 'http'}://{options.endpoint}"
        parts = urlsplit(url)
        if parts.scheme not in _SCHEMES or not parts.hostname:
            raise SourceError(f"endpoint: {options.endpoint!r} is not an http or https URL")
        context = None
        if options.tls is not None and parts.scheme == "https":
            certificate, key, authority = options.tls
            context = self._context(authority, certificate, key)
        return Access(url.rstrip("/"), {}, context)

    def _in_cluster(self) -> Access:
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "")
        if not host or not port:
            raise SourceError(
                "unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined; "
                "outside a cluster use kubeconfig, endpoint or manifests"
            )
        from kubernetes.aio.config.incluster_config import InClusterConfigLoader

        folder = self._service_account
        make: Any = InClusterConfigLoader
        loader = make(f"{folder}/token", f"{folder}/ca.crt", try_refresh_token=False)
        return self._from_client(loader.load_and_set, "in-cluster configuration")

    async def _kubeconfig(self) -> Access:
        from kubernetes.aio import config as client_config
        from kubernetes.aio.client import Configuration

        load: Any = client_config.load_kube_config
        path, context = self._options.kubeconfig, self._options.context or None
        if not Path(path).is_file():
            raise SourceError(f"kubeconfig: {path}: no such file")
        configuration = Configuration()
        try:
            loader: Any = await load(path, context, configuration, persist_config=False)
        except Exception as error:
            raise SourceError(f"kubeconfig: {path}: {_one_line(error)}") from error
        self._refresh = EXEC_REFRESH if _runs_plugin(loader) else REFRESH
        return self._of(configuration)

    def _from_client(self, load: Any, what: str) -> Access:
        from kubernetes.aio.client import Configuration

        configuration = Configuration()
        try:
            load(configuration)
        except Exception as error:
            raise SourceError(f"{what}: {_one_line(error)}") from error
        return self._of(configuration)

    def _of(self, configuration: Any) -> Access:
        """What the client's configuration says, as an access."""
        token = configuration.api_key.get("BearerToken")
        headers = {"Authorization": _with_scheme(token)} if token else {}
        context = None
        if configuration.host.startswith("https"):
            context = self._context(
                configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file, verify=configuration.verify_ssl
            )
        return Access(
            configuration.host.rstrip("/"),
            headers,
            context,
            getattr(configuration, "tls_server_name", None) or None,
            getattr(configuration, "proxy", None) or None,
        )

    def _context(self, authority: str | None, certificate: str | None, key: str | None, *, verify: bool = True) -> ssl.SSLContext:
        """A TLS context for these files; the same one as long as their contents are."""
        try:
            marks = tuple(hashlib.sha256(Path(p).read_bytes()).digest() if p else None for p in (authority, certificate, key))
            found = self._contexts.get((*marks, verify))
            if found is None:
                found = ssl.create_default_context(cafile=authority)
                found.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)  # clusters' own CAs often lack what strictness asks for
                if certificate:
                    found.load_cert_chain(certificate, key)
                if not verify:
                    found.check_hostname = False
                    found.verify_mode = ssl.CERT_NONE
                self._contexts = {(*marks, verify): found}
        except (OSError, ssl.SSLError) as error:
            raise SourceError(f"tls: cannot use {authority}, {certificate}, {key}: {_one_line(error)}") from error
        return found


def _runs_plugin(loader: Any) -> bool:
    user = getattr(loader, "_user", None)
    return user is not None and ("exec" in user or "auth-provider" in user)


def _with_scheme(token: str) -> str:
    """`Bearer` in its usual spelling; the client writes it in lower case for a Pod's token."""
    return "Bearer" + token.strip()[6:] if token[:7].lower() == "bearer " else token.strip()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
