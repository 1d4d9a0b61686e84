"""Explains a name for the status page: runs `svcdns explain` in a process of its own, which the control process starts.

The process gets the state of the server over the Unix socket of the plugin *admin*. Only one such process runs at a
time, with a time limit, so that the page cannot keep the control process from its work.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Callable, Mapping
from typing import Final

from svcdns.errors import SvcdnsError
from svcdns.process import isolated
from svcdns.wire import names
from svcdns.wire.errors import NameTextError

TIMEOUT: Final = 30.0
"""Seconds that an explanation may take. Names outside the cluster are queried at the upstreams."""
MAX_TEXT: Final = 65536
"""The most octets of an explanation."""
NO_SOCKET: Final = "The page can explain names if a server block has the plugin admin."


class ExplanationError(SvcdnsError):
    """Raised if a name cannot be explained. The text is shown to the user."""


class Explanations:
    """Explains names, one at a time."""

    def __init__(self, socket: Callable[[], str | None]) -> None:
        """`socket` returns the path of the Unix socket of *admin*, or None if there is none."""
        self._socket = socket
        self._running = asyncio.Lock()

    async def explain(self, query: Mapping[str, str]) -> str:
        """Returns the explanation of the name `name`, for the type `type` and the client `client`.

        Raises ExplanationError.
        """
        name, rtype, client = (query.get(key, "").strip() for key in ("name", "type", "client"))
        path = self._socket()
        if path is None:
            raise ExplanationError(NO_SOCKET)
        if self._running.locked():
            raise ExplanationError("Another name is being explained. Try again.")
        words = [*_checked(name, rtype or "A", client), "--server", path, "--verbose"]
        async with self._running:
            return await _run(isolated.command("svcdns", "explain", *words))


def _checked(name: str, rtype: str, client: str) -> list[str]:
    """Returns the arguments of the command. Raises ExplanationError."""
    try:
        names.from_text(name)
    except NameTextError as error:
        raise ExplanationError(f"Name: {error}") from error
    if not name or name.startswith("-"):
        raise ExplanationError("Name: a domain name was expected")
    if not rtype.isascii() or not rtype.isalnum():
        raise ExplanationError("Type: a record type such as A was expected")
    if not client:
        return [name, rtype]
    try:
        return [name, rtype, "--client", str(ipaddress.ip_address(client))]
    except ValueError as error:
        raise ExplanationError("Client address: an IP address was expected") from error


async def _run(command: list[str]) -> str:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(TIMEOUT):
            out, failure = await process.communicate()
    except TimeoutError as error:
        raise ExplanationError(f"The explanation took more than {TIMEOUT:.0f} seconds.") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    text = (out or failure)[:MAX_TEXT].decode(errors="replace").strip()
    if process.returncode not in (0, 1):
        raise ExplanationError(text.removeprefix("Error: "))
    return text
