"""What a kubeconfig says, read by the official client in a process of its own: `python -m svcdns.sources.api.kubeconfig PATH CONTEXT`.

The client knows the rules of kubeconfigs and runs exec plugins, but it takes half a second and twenty megabytes to import; so the process
that watches the API asks another one, which ends with the answer. None of the client's requests, models or watches is used. The
answer is a `Found` as JSON on standard output; what is wrong is one line in its `error`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec

from svcdns.cluster.watch_options import SourceError
from svcdns.process import isolated

PATIENCE = 60.0
"""Seconds for reading it, exec plugins included."""


class Part(msgspec.Struct, frozen=True):
    """A certificate, key or CA: a file of the user's, or its text where the kubeconfig holds it itself."""

    path: str = ""
    text: str = ""


class Found(msgspec.Struct, frozen=True):
    """Server and credentials of a context. `files` are those whose change is a change of this; an exec plugin's answer changes without."""

    host: str = ""
    token: str = ""
    authority: Part | None = None
    certificate: Part | None = None
    key: Part | None = None
    verify: bool = True
    server_name: str | None = None
    proxy: str | None = None
    runs_plugin: bool = False
    files: tuple[str, ...] = ()
    error: str = ""


async def ask(path: str, context: str, patience: float = PATIENCE) -> Found:
    """What that kubeconfig says of that context, or of its current one. Raises SourceError, also after `patience` seconds."""
    if not Path(path).is_file():
        raise SourceError(f"kubeconfig: {path}: no such file")
    command = isolated.command("svcdns.sources.api.kubeconfig", path, context)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(patience):
            answer, _ = await process.communicate()
    except TimeoutError:
        raise SourceError(f"kubeconfig: {path}: its reader, or an exec plugin, did not end within {patience:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        found = msgspec.json.decode(answer, type=Found)
    except msgspec.DecodeError as error:
        raise SourceError(f"kubeconfig: {path}: its reader ended with code {process.returncode}") from error
    if found.error:
        raise SourceError(f"kubeconfig: {path}: {found.error}")
    return found


async def read(path: str, context: str, folder: str) -> Found:
    """Reads it in this process; `folder` is made for the client's files if it needs any. Raises whatever the client raises."""
    from kubernetes.aio import config as client_config
    from kubernetes.aio.client import Configuration

    configuration: Any = Configuration()
    load: Any = client_config.load_kube_config
    loader: Any = await load(path, context or None, configuration, persist_config=False, temp_file_path=folder)
    user = getattr(loader, "_user", None) or {}
    parts = [_part(file, folder) for file in (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)]
    token_file = [str(Path(path).parent / user["tokenFile"])] if "tokenFile" in user else []
    return Found(
        host=configuration.host,
        token=configuration.api_key.get("BearerToken") or "",
        authority=parts[0],
        certificate=parts[1],
        key=parts[2],
        verify=configuration.verify_ssl,
        server_name=getattr(configuration, "tls_server_name", None) or None,
        proxy=getattr(configuration, "proxy", None) or None,
        runs_plugin="exec" in user or "auth-provider" in user,
        files=(path, *token_file, *(part.path for part in parts if part is not None and part.path)),
    )


def _part(file: str | None, folder: str) -> Part | None:
    if not file:
        return None
    return Part(text=Path(file).read_text(encoding="ascii")) if file.startswith(folder) else Part(path=file)


def main() -> int:
    """Prints what the kubeconfig says."""
    _, path, context = sys.argv
    # The client makes it, if at all; its name cannot be foreseen, so nobody can have put another's files there.
    folder = f"{os.environ.get('TMPDIR', '/tmp')}/svcdns-{secrets.token_hex(16)}"
    try:
        found = asyncio.run(read(path, context, folder))
    except Exception as error:  # noqa: BLE001  the client raises whatever its libraries do
        found = Found(error=" ".join(str(error).split()) or type(error).__name__)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.buffer.write(msgspec.json.encode(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
