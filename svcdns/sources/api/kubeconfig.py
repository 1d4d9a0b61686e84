"""Loads a kubeconfig with the official Kubernetes client, in another process.

The command of this process is `svcdns.sources.api.kubeconfig PATH CONTEXT`. The process prints a `Loaded` object as
JSON; an error is one line in the field `error`. A separate process is used because the client takes half a second and
twenty megabytes to import.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec

from svcdns.cluster.watch_options import SourceError
from svcdns.errors import UNDECODABLE
from svcdns.process import isolated
from svcdns.process.blocking_io import in_thread

TIMEOUT = 60.0
"""Seconds that loading a kubeconfig may take, exec plugins included."""
KILL_WAIT = 1.0
"""Seconds to wait for the end of a killed process. A process that reads from a hanging mount does not end."""


class Part(msgspec.Struct, frozen=True):
    """A certificate, key or CA: the path of its file, or its text if the kubeconfig contains the text."""

    path: str = ""
    text: str = ""


class Loaded(msgspec.Struct, frozen=True):
    """The server and the credentials of a kubeconfig's context.

    `files` are the files that were read. If `runs_plugin` is true, an exec plugin provides the credentials: they may
    change although no file changes.
    """

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


async def load(path: str, context: str, timeout: float = TIMEOUT) -> Loaded:
    """Loads a context of a kubeconfig. If `context` is empty, the kubeconfig's current context is used.

    Raises SourceError, also after `timeout` seconds.
    """
    if not await in_thread(Path(path).is_file):
        reason = "it is a folder" if await in_thread(Path(path).is_dir) else "no such file"
        raise SourceError(f"kubeconfig: {path}: {reason}")
    loaded = await run_reader(path, context, timeout)
    if loaded.error:
        raise SourceError(f"kubeconfig: {path}: {loaded.error}")
    return loaded


async def run_reader(path: str, context: str, timeout: float) -> Loaded:
    """Starts the process that reads the kubeconfig, and returns its result.

    Raises SourceError if the process fails or does not end in time.
    """
    command = isolated.command("svcdns.sources.api.kubeconfig", path, context)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(timeout):
            answer, _ = await process.communicate()
    except TimeoutError:
        raise SourceError(
            f"kubeconfig: {path}: its reader, or an exec plugin, did not end within {timeout:g} s"
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KILL_WAIT):
                    await process.wait()
    try:
        return msgspec.json.decode(answer, type=Loaded)
    except UNDECODABLE as error:
        raise SourceError(f"kubeconfig: {path}: its reader ended with code {process.returncode}") from error


async def read(path: str, context: str, folder: str) -> Loaded:
    """Reads the kubeconfig with the official Kubernetes client. Exceptions of the client pass through.

    The client creates `folder` if it needs temporary files.
    """
    from kubernetes.aio import config as client_config
    from kubernetes.aio.client import Configuration

    configuration: Any = Configuration()
    load: Any = client_config.load_kube_config
    loader: Any = await load(path, context or None, configuration, persist_config=False, temp_file_path=folder)
    user = getattr(loader, "_user", None) or {}
    parts = [
        _part(file, folder) for file in (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file)
    ]
    token_file = [str(Path(path).parent / user["tokenFile"])] if "tokenFile" in user else []
    return Loaded(
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


def _wrong_shape(path: str, context: str) -> str:
    """Returns the reason why a file is not a kubeconfig, or an empty text.

    If the YAML is invalid, the reason has the line number. Other exceptions pass through.
    """
    import yaml

    try:
        body = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        return f"it is not YAML: {f'line {mark.line + 1}: ' if mark is not None else ''}{error.problem}"
    if not isinstance(body, dict):
        return "it is empty" if body is None else f"it is not a kubeconfig: {type(body).__name__} at the top level"
    if body.get("kind", "Config") != "Config":
        return f"it is not a kubeconfig: kind is {body['kind']!r}, 'Config' was expected"
    if not (context or body.get("current-context")):
        return "it has no current-context, and the option kubeconfig names no context"
    return ""


def _part(file: str | None, folder: str) -> Part | None:
    if not file:
        return None
    return Part(text=Path(file).read_text(encoding="ascii")) if file.startswith(folder) else Part(path=file)


async def read_or_error(path: str, context: str) -> Loaded:
    """Reads the kubeconfig, and leaves no temporary file behind.

    An error becomes one line in the result's field `error`.
    """
    # The client creates the folder. Its name cannot be guessed, so no other user can have put files there.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"  # keys should not reach a disk
    folder = f"{os.environ.get('TMPDIR', memory)}/svcdns-{secrets.token_hex(16)}"
    try:
        wrong = _wrong_shape(path, context)
        return Loaded(error=wrong) if wrong else await read(path, context, folder)
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        # A field has another type than the client expects; its text alone would not say so.
        return Loaded(error=f"it is not a valid kubeconfig ({type(error).__name__}: {' '.join(str(error).split())})")
    except OSError as error:
        return Loaded(error=f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except Exception as error:  # noqa: BLE001  the client raises whatever its libraries raise
        return Loaded(error=" ".join(str(error).split()) or type(error).__name__)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Reads the context that the command line names, and prints it as JSON."""
    _, path, context = sys.argv
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(read_or_error(path, context))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
