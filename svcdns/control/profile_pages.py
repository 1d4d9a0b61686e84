"""The pages below /debug/pprof/ (plugin *pprof*): profiles and stacks of control and of all workers, by process."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from html import escape
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from svcdns.control import profile_format
from svcdns.control.http_message import Request, Response
from svcdns.control.workers import CallError, Workers
from svcdns.telemetry import profiles

FOLDER: Final = "/debug/pprof/"
SECONDS: Final = {"profile": 30.0, "heap": 10.0}
GRACE: Final = 10.0
"""Seconds that a worker may take for its result, in addition to the time of the profile."""
ABOUT: Final = {
    "profile": "processor time of the next 30 s, for the program pprof. Parameters: seconds=N, format=collapsed",
    "heap": "memory that is allocated in the next 10 s and stays in use. The processes are slower for this time. "
    "Parameters: seconds=N, format=collapsed",
    "goroutine": "the stacks of all tasks and threads, as text",
    "cmdline": "the command line, with a zero octet after each word",
}

T = TypeVar("T")


class ProfilePages:
    """Makes the pages. A page asks control itself and all workers that run."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    async def page(self, request: Request) -> Response:
        """Returns the page of a path below FOLDER."""
        name = request.path.removeprefix(FOLDER.rstrip("/")).strip("/")
        try:
            match name:
                case "":
                    return Response(_index().encode(), content_type="text/html; charset=utf-8")
                case "cmdline":
                    return Response(Path(f"/proc/{os.getppid()}/cmdline").read_bytes() if _has_proc() else _words())
                case "goroutine":
                    return Response(_stacks(await self._all("stacks", b"", GRACE, _own_stacks)))
                case "profile" | "heap":
                    return await self._profile(name, request)
        except profiles.ProfileError as error:
            return Response(f"{error}\n".encode(), 400)
        except CallError as error:
            return Response(f"{error}\n".encode(), 503)
        return Response(b"404 a Python process has no such profile\n", 404)

    async def _profile(self, name: str, request: Request) -> Response:
        seconds = _seconds(request.query.get("seconds", ""), SECONDS[name])
        own, function, kinds = (
            (profiles.cpu, "cpu_profile", profile_format.CPU)
            if name == "profile"
            else (profiles.heap, "heap_profile", profile_format.HEAP)
        )

        async def of_control() -> bytes:
            return msgspec.msgpack.encode(await own(seconds))

        found = await self._all(function, msgspec.msgpack.encode(seconds), seconds + GRACE, of_control)
        profile = {
            process: msgspec.msgpack.decode(octets, type=list[profiles.Sample]) for process, octets in found.items()
        }
        if request.query.get("format") == "collapsed":
            return Response(profile_format.collapsed(profile).encode())
        period = int(profiles.PERIOD * 1e9) if name == "profile" else 1
        return Response(profile_format.pprof(profile, kinds, seconds, period), content_type="application/octet-stream")

    async def _all(
        self, function: str, argument: bytes, timeout: float, own: Callable[[], Awaitable[bytes]]
    ) -> dict[str, bytes]:
        """Runs `own` here and `function` in each worker. Returns the results by process name.

        Raises the exceptions of the calls.
        """
        calls: dict[str, Any] = {"control": own()}
        for name, region in self._workers.callable_workers().items():
            calls[name] = self._workers.call(region, function, argument, timeout)
        results = await asyncio.gather(*calls.values(), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return dict(zip(calls, results, strict=True))  # type: ignore[arg-type]


async def _own_stacks() -> bytes:
    return profiles.stacks().encode()


def _seconds(text: str, default: float) -> float:
    try:
        return float(text) if text else default
    except ValueError:
        raise profiles.ProfileError(f"seconds={text}: a number was expected") from None


def _stacks(found: dict[str, bytes]) -> bytes:
    return b"\n".join(f"== {process}\n".encode() + text for process, text in found.items())


def _has_proc() -> bool:
    return Path("/proc/self").exists()


def _words() -> bytes:
    return "".join(f"{word}\0" for word in sys.argv).encode()


def _index() -> str:
    rows = "".join(f'<li><a href="{FOLDER}{name}">{name}</a>: {escape(text)}</li>\n' for name, text in ABOUT.items())
    return f"<!doctype html>\n<title>{FOLDER}</title>\n<h1>Profiles of svcdns</h1>\n<ul>\n{rows}</ul>\n"
