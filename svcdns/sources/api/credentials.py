"""How to reach the API server: address, TLS and headers, from the Corefile's options, a kubeconfig or the Pod's own files.

Rules: everything is read again before a request, at most every REFRESH seconds, so that a rotated token, a renewed certificate or an edited
kubeconfig takes effect without a restart; a kubeconfig only if one of its files has changed, and what an exec plugin gave is kept
until it is refused or too old.

Source: Kubernetes documentation, "Accessing the Kubernetes API from a Pod", "Directly accessing the REST API".
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import logging
import os
import ssl
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from svcdns.cluster.watch_options import SourceError, WatchOptions
from svcdns.eventloop.clock import Clock
from svcdns.sources.api import kubeconfig
from svcdns.sources.snapshot_file import Origin

REFRESH = 5.0
"""Seconds after which files are read again."""
EXEC_RETRY = 5.0
"""Seconds from one run of an exec plugin to the next while what it gives is refused."""
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
    def origin(self) -> Origin:
        """Which cluster this leads to."""
        authorities = self.ssl.get_ca_certs(binary_form=True) if self.ssl is not None else []
        return Origin(self.url, tuple(sorted(hashlib.sha256(authority).digest() for authority in authorities)))

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
        self._reading = asyncio.Lock()
        self._asked_at = 0.0
        self._refused = False
        self._found: kubeconfig.Found | None = None
        self._stamps: tuple[object, ...] = ()
        self._contexts: dict[tuple[object, ...], ssl.SSLContext] = {}

    async def access(self) -> Access:
        """The access to use for a request now. Raises SourceError."""
        async with self._reading:
            now = self._clock()
            if self._access is None or now - self._read_at >= REFRESH:
                self._access = await self._read()
                self._read_at = now
            return self._access

    async def renew(self, *, refused: bool) -> bool:
        """Reads everything again; True if it has changed. What an exec plugin gave is asked for anew only if it was `refused`, and not
        all the time. Raises SourceError."""
        before = self._access
        self._access = None
        self._refused = self._refused or refused
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
        folder = Path(self._service_account)
        try:
            token = (folder / "token").read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            raise SourceError(f"in-cluster configuration: the token of the service account: {_one_line(error)}") from error
        if not token:
            raise SourceError(f"in-cluster configuration: {folder / 'token'} is empty")
        shown = f"[{host}]" if ":" in host else host
        return Access(f"https://{shown}:{port}", {"Authorization": f"Bearer {token}"}, self._context(str(folder / "ca.crt"), None, None))

    async def _kubeconfig(self) -> Access:
        """What the kubeconfig says, asked for anew only where it may be another."""
        found = self._found
        if found is None or self._outdated(found):
            self._asked_at, self._refused = self._clock(), False
            found = self._found = await kubeconfig.ask(self._options.kubeconfig, self._options.context)
            self._stamps = _stamps(found.files)
        context = None
        if found.host.startswith("https"):
            with contextlib.ExitStack() as stack:
                files = [_file(part, stack) for part in (found.authority, found.certificate, found.key)]
                context = self._context(*files, verify=found.verify)
        headers = {"Authorization": _with_scheme(found.token)} if found.token else {}
        return Access(found.host.rstrip("/"), headers, context, found.server_name, found.proxy)

    def _outdated(self, found: kubeconfig.Found) -> bool:
        lasts = EXEC_RETRY if self._refused else EXEC_REFRESH
        return _stamps(found.files) != self._stamps or (found.runs_plugin and self._clock() - self._asked_at >= lasts)

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


def _stamps(files: Iterable[str]) -> tuple[object, ...]:
    """What is another after any of the files has changed."""
    found = [Path(file).stat() if Path(file).exists() else None for file in files]
    return tuple(status and (status.st_ino, status.st_size, status.st_mtime_ns) for status in found)


def _file(part: kubeconfig.Part | None, stack: contextlib.ExitStack) -> str | None:
    """A file with what the part says, for as long as the stack is open: OpenSSL takes certificates and keys from files alone."""
    if part is None or part.path:
        return part.path if part is not None else None
    try:
        handle, name = tempfile.mkstemp()
        stack.callback(os.unlink, name)
        with open(handle, "w", encoding="ascii") as file:
            file.write(part.text)
    except OSError as error:
        raise SourceError(f"kubeconfig: a file for what is written in it: {_one_line(error)}") from error
    return name


def _with_scheme(token: str) -> str:
    """`Bearer` in its usual spelling; the client writes it in lower case for a Pod's token."""
    return "Bearer" + token.strip()[6:] if token[:7].lower() == "bearer " else token.strip()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
