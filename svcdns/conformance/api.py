"""Reads from and writes to the API server that the server under test watches.

Only the suite's own objects are written. Every failure is a ConformanceError with a text of one line. Sources:
Kubernetes API conventions; RFC 7386 for merge patches.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import aiohttp

from svcdns.cluster.watch_options import SourceError, WatchOptions
from svcdns.conformance.cluster_model import Object
from svcdns.conformance.errors import ConformanceError
from svcdns.eventloop.clock import monotonic
from svcdns.sources.api.credentials import Access, Credentials

NAMESPACES: Final = "/api/v1/namespaces"
SERVICES: Final = "services"
SLICES: Final = "endpointslices"
PODS: Final = "pods"
_GROUPS: Final = {SERVICES: "/api/v1", PODS: "/api/v1", SLICES: "/apis/discovery.k8s.io/v1"}
KINDS: Final = {SERVICES: "Service", SLICES: "EndpointSlice", PODS: "Pod", NAMESPACES: "Namespace"}
PAGE: Final = 500
TIMEOUT: Final = 10.0
"""The time limit of one request, in seconds."""


def path_of(resource: str, namespace: str = "", name: str = "") -> str:
    """Returns the URL path of a namespaced resource, or of one object if `name` is given.

    Without `namespace`, the path is that of all namespaces.
    """
    parts = [_GROUPS[resource], *(["namespaces", namespace] if namespace else []), resource, *([name] if name else [])]
    return "/".join(parts)


def connect(access: Access, *, unpack: bool = True) -> aiohttp.ClientSession:
    """Returns a session for an API server.

    If `unpack` is true, the session decompresses bodies. For a server on this machine, the proxy of the environment is
    not used.
    """
    return aiohttp.ClientSession(trust_env=not access.local, auto_decompress=unpack)


class MissingError(ConformanceError):
    """Raised if the object does not exist (status 404)."""


class Api:
    """Sends requests to the API server, with the permissions of the kubeconfig's user."""

    def __init__(self, session: aiohttp.ClientSession, credentials: Credentials) -> None:
        self._session, self._credentials = session, credentials

    async def get(self, path: str) -> Object:
        """Returns the object at `path`."""
        return await self._request("GET", path)

    async def listed(self, path: str, kind: str) -> list[Object]:
        """Returns all objects of a resource, read in pages.

        Sets `kind` in each object, because lists of the API server do not contain it.
        """
        found: list[Object] = []
        token = ""
        while True:
            query = {"limit": str(PAGE), **({"continue": token} if token else {})}
            page = await self._request("GET", path, query=query)
            found += [{**item, "kind": kind} for item in page.get("items") or ()]
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return found

    async def create(self, path: str, content: Object) -> Object:
        """Creates an object. Returns the object as the API server stored it."""
        return await self._request("POST", path, content)

    async def patch(self, path: str, change: Object) -> Object:
        """Changes an object by a merge patch. Returns the object as the API server stored it."""
        return await self._request("PATCH", path, change, "application/merge-patch+json")

    async def delete(self, path: str) -> None:
        """Deletes an object. A missing object is no error."""
        with contextlib.suppress(MissingError):
            await self._request("DELETE", path)

    async def _request(
        self,
        method: str,
        path: str,
        content: Object | None = None,
        kind: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Object:
        try:
            access = await self._credentials.access()
            async with self._session.request(
                method,
                access.url + path,
                params=query,
                data=None if content is None else json.dumps(content),
                headers={**access.headers, "Accept": "application/json", "Content-Type": kind},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT),
                allow_redirects=False,
                ssl=access.ssl if access.ssl is not None else True,
                server_hostname=access.server_hostname,
                proxy=access.proxy,
            ) as response:
                return _checked(method, path, response.status, await response.read())
        except SourceError as error:
            raise ConformanceError(str(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise ConformanceError(f"API server: {method} {path}: {str(error) or 'timed out'}") from error


def _checked(method: str, path: str, status: int, body: bytes) -> Object:
    try:
        found: Any = json.loads(body)
    except ValueError:
        found = {}
    if status < 300 and isinstance(found, dict):
        return found
    message = found.get("message") if isinstance(found, dict) else None
    error = MissingError if status == 404 else ConformanceError
    raise error(f"API server: {method} {path}: {status} {message or body[:120].decode(errors='replace')}".rstrip())


@contextlib.asynccontextmanager
async def api_of(kubeconfig: str, context: str = "") -> AsyncIterator[Api]:
    """Connects to the API server of a kubeconfig. Raises ConformanceError if the file cannot be used."""
    credentials = Credentials(
        WatchOptions(kubeconfig=kubeconfig, context=context), clock=monotonic, log=logging.getLogger(__name__)
    )
    try:
        access = await credentials.access()
    except SourceError as error:
        raise ConformanceError(str(error)) from error
    async with connect(access) as session:
        yield Api(session, credentials)
