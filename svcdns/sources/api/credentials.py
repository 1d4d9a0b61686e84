"""Determines the address, the TLS settings and the headers for requests to the API server.

The sources are the Corefile's options, a kubeconfig, or the files of the Pod. No request is sent here. Rules:

1. Files are read again before a request, at most every REFRESH seconds.
2. A kubeconfig is loaded again only if one of its files has changed. The output of an exec plugin is used for at most
   EXEC_REFRESH seconds, or until the API server refuses it.
3. Files are read outside the event loop. If a mount hangs, requests use the previous values.

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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from urllib.parse import urlsplit

from svcdns.cluster.watch_options import SourceError, WatchOptions
from svcdns.eventloop.clock import Clock
from svcdns.log_line import LogLine
from svcdns.process.blocking_io import in_thread
from svcdns.sources.api import kubeconfig
from svcdns.sources.snapshot_file import Origin
from svcdns.tls.material import memory_path

REFRESH = 5.0
"""Seconds after which files are read again."""
FIRST_LIMIT = 65.0
"""Seconds that the first read may take; loading a kubeconfig has a shorter limit of its own."""
LATER_WAIT = 5.0
"""Seconds that a request waits for a later read, before it uses the access that was read last."""
EXEC_RETRY = 5.0
"""Seconds between two runs of an exec plugin whose output the API server refuses."""
EXEC_REFRESH = 600.0
"""Seconds after which an exec plugin is run again, even if the API server still accepts its output."""
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True)
class Access:
    """The address of the API server, and the headers and TLS settings of requests.

    `url` has no slash at the end.
    """

    url: str
    headers: Mapping[str, str]
    ssl: ssl.SSLContext | None = None
    server_hostname: str | None = None
    proxy: str | None = None

    @property
    def host(self) -> str:
        """Returns the host and port of the API server, as they appear in metrics and log lines."""
        return urlsplit(self.url).netloc

    @property
    def origin(self) -> Origin:
        """Returns the identity of the cluster: the address of its API server, and the SHA-256 of each CA."""
        authorities = self.ssl.get_ca_certs(binary_form=True) if self.ssl is not None else []
        return Origin(self.url, tuple(sorted(hashlib.sha256(authority).digest() for authority in authorities)))

    @property
    def local(self) -> bool:
        """Returns True if the address is `localhost` or a loopback address."""
        name = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return name == "localhost"


class Credentials:
    """Provides the `Access` for the watch options, and reads its files again when they change."""

    def __init__(
        self, options: WatchOptions, *, clock: Clock, log: logging.Logger, service_account: str = SERVICE_ACCOUNT
    ) -> None:
        """`service_account` is the folder with the token and the CA of a Pod's ServiceAccount."""
        self._options, self._clock, self._log, self._service_account = options, clock, log, service_account
        self._access: Access | None = None
        self._read_at = 0.0
        self._lock = asyncio.Lock()
        self._reading: asyncio.Task[Access] | None = None
        self._loaded_at = 0.0
        self._refused = False
        self._kubeconfig: kubeconfig.Loaded | None = None
        self._stamps: tuple[object, ...] = ()
        self._contexts: dict[tuple[object, ...], ssl.SSLContext] = {}

    async def access(self) -> Access:
        """Returns the address, headers and TLS settings for a request that is sent now. Raises SourceError."""
        async with self._lock:
            now = self._clock()
            if self._access is None or now - self._read_at >= REFRESH:
                self._access = await self._latest(self._access)
                self._read_at = now
            return self._access

    async def _latest(self, last: Access | None) -> Access:
        """Reads the files, and returns the address, headers and TLS settings for requests.

        If the files cannot be read in time, returns `last`.
        """
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
            first = True
        else:
            first = False
        limit = FIRST_LIMIT if last is None else LATER_WAIT
        await asyncio.wait([self._reading], timeout=limit)
        if self._reading.done():
            reading, self._reading = self._reading, None
            return reading.result()
        if last is None:
            raise SourceError(f"credentials: their files cannot be read within {limit:g} s")
        if first:
            self._log.warning(
                LogLine("reading the credentials takes long: the earlier ones stay in use", seconds=limit)
            )
        return last

    async def close(self) -> None:
        """Cancels a read that has not finished."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
            self._reading = None

    async def renew(self, *, refused: bool) -> bool:
        """Reads the files again. Returns True if the access has changed. Raises SourceError.

        If the credentials were `refused`, an exec plugin is run again, at most every EXEC_RETRY seconds.
        """
        before = self._access
        self._read_at = -inf
        self._refused = self._refused or refused
        return await self.access() != before

    async def _read(self) -> Access:
        if self._options.kubeconfig:
            return await self._from_kubeconfig()
        return await in_thread(self._from_endpoint if self._options.endpoint else self._in_cluster)

    def _from_endpoint(self) -> Access:
        options = self._options
        url = (
            options.endpoint
            if "://" in options.endpoint
            else f"{'https' if options.tls else 'http'}://{options.endpoint}"
        )
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
            raise SourceError(
                f"in-cluster configuration: the token of the service account: {_one_line(error)}"
            ) from error
        if not token:
            raise SourceError(f"in-cluster configuration: {folder / 'token'} is empty")
        shown = f"[{host}]" if ":" in host else host
        return Access(
            f"https://{shown}:{port}",
            {"Authorization": f"Bearer {token}"},
            self._context(str(folder / "ca.crt"), None, None),
        )

    async def _from_kubeconfig(self) -> Access:
        """Returns the access from the kubeconfig, which is loaded again if it may have changed."""
        loaded = self._kubeconfig
        if loaded is None or await in_thread(self._outdated, loaded):
            self._loaded_at, self._refused = self._clock(), False
            loaded = self._kubeconfig = await kubeconfig.load(self._options.kubeconfig, self._options.context)
            self._stamps = await in_thread(_stamps, loaded.files)
        return await in_thread(self._access_of, loaded)

    def _access_of(self, loaded: kubeconfig.Loaded) -> Access:
        context = None
        if loaded.host.startswith("https"):
            with contextlib.ExitStack() as stack:
                parts = loaded.authority, loaded.certificate, loaded.key
                files = [_file(part, stack) for part in parts]
                try:
                    context = self._context(*files, verify=loaded.verify)
                except SourceError as error:
                    text = str(error)
                    for part, file in zip(parts, files, strict=True):
                        if part is not None and file is not None and not part.path:
                            text = text.replace(file, "data of the kubeconfig")
                    raise SourceError(text) from error
        headers = {"Authorization": _with_scheme(loaded.token)} if loaded.token else {}
        return Access(loaded.host.rstrip("/"), headers, context, loaded.server_name, loaded.proxy)

    def _outdated(self, loaded: kubeconfig.Loaded) -> bool:
        lasts = EXEC_RETRY if self._refused else EXEC_REFRESH
        return _stamps(loaded.files) != self._stamps or (
            loaded.runs_plugin and self._clock() - self._loaded_at >= lasts
        )

    def _context(
        self, authority: str | None, certificate: str | None, key: str | None, *, verify: bool = True
    ) -> ssl.SSLContext:
        """Returns a TLS context for these files. While their content is the same, the same context is returned."""
        try:
            digests = tuple(
                hashlib.sha256(Path(p).read_bytes()).digest() if p else None for p in (authority, certificate, key)
            )
            found = self._contexts.get((*digests, verify))
            if found is None:
                found = ssl.create_default_context(cafile=authority)
                found.verify_flags &= ~getattr(
                    ssl, "VERIFY_X509_STRICT", 0
                )  # the CAs of clusters often violate RFC 5280
                if certificate:
                    found.load_cert_chain(certificate, key)
                if not verify:
                    found.check_hostname = False
                    found.verify_mode = ssl.CERT_NONE
                self._contexts = {(*digests, verify): found}
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(filter(None, (authority, certificate, key)))
            raise SourceError(f"tls: cannot use {files}: {_one_line(error)}") from error
        return found


def _stamps(files: Iterable[str]) -> tuple[object, ...]:
    """Returns inode, size and modification time of each file: a value that changes with the files."""
    found = [Path(file).stat() if Path(file).exists() else None for file in files]
    return tuple(status and (status.st_ino, status.st_size, status.st_mtime_ns) for status in found)


def _file(part: kubeconfig.Part | None, stack: contextlib.ExitStack) -> str | None:
    """Returns the path of a file with a certificate, key or CA.

    If the kubeconfig contains the text itself, writes the text to a file in memory, which `stack` closes.
    """
    if part is None or part.path:
        return part.path if part is not None else None
    try:
        return stack.enter_context(memory_path(part.text.encode()))
    except OSError as error:
        raise SourceError(f"kubeconfig: a file in memory for a certificate or key: {_one_line(error)}") from error


def _with_scheme(token: str) -> str:
    """Returns the value of the header Authorization with the scheme spelled `Bearer`."""
    return "Bearer" + token.strip()[6:] if token[:7].lower() == "bearer " else token.strip()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
