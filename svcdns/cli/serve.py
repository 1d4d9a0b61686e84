"""`svcdns serve`, and `svcdns` without a command: starts the server."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Final

from svcdns import __version__
from svcdns.cli import standard_input
from svcdns.cli.arguments import parse, parser
from svcdns.supervisor.early_sockets import EarlySocket

COMMANDS: Final = (
    "serve",
    "cache",
    "check",
    "explain",
    "interface",
    "probe",
    "query",
    "ready",
    "shadow",
    "top",
    "completion",
    "man",
    "conformance",
    "demo",
    "help",
)
_MANIFESTS: Final = re.compile(rb"^[ \t]*manifests[ \t](?:[^\n#]*[ \t])?-[ \t\r]*(?:[ {#\n]|$)", re.MULTILINE)


def run(argv: Sequence[str], prog: str = "svcdns", early: Sequence[EarlySocket] = ()) -> int:
    """Runs the server until it is stopped, and returns the exit code.

    `early` has the DNS sockets that are bound already.
    """
    arguments = parse(prog, argv)
    if arguments.rest:
        return _extra(arguments.rest, prog)
    if arguments.version:
        sys.stdout.write(version())
        return 0
    if arguments.plugins:
        sys.stdout.write(_plugins())
        return 0
    if not 0 < arguments.port < 65536:
        sys.stderr.write(f"-dns.port {arguments.port}: a port from 1 to 65535 was expected\n")
        return 1
    from svcdns.supervisor import process

    if arguments.conf == "stdin" or reads_manifests_from_standard_input(arguments.conf or "Corefile"):
        standard_input.keep()
    options = {"conf": arguments.conf, "port": arguments.port, "quiet": arguments.quiet, "state": arguments.state}
    return process.run(["--options", json.dumps(options)], arguments.pidfile, pin=arguments.pin, early=early)


def _extra(words: Sequence[str], prog: str) -> int:
    """Handles words that the command line must not have. Returns the exit code.

    Prints the usage for `help`, otherwise an error with the most similar command.
    """
    if list(words) == ["help"]:
        parser(prog).print_help()
        return 0
    import difflib  # here and below: a start needs none of these modules, and the supervisor would keep them

    near = difflib.get_close_matches(words[0], COMMANDS, n=1, cutoff=0.5)
    meant = f"did you mean '{prog} {near[0]}'?" if near else f"the commands are {', '.join(COMMANDS)}"
    sys.stderr.write(f"extra command line arguments: [{' '.join(words)}]; {meant}\n")
    parser(prog).print_usage(sys.stderr)
    return 1


def reads_manifests_from_standard_input(path: str) -> bool:
    """Returns True if the text of the Corefile at `path` has the option `manifests -`."""
    try:
        with open(path, "rb") as file:
            return _MANIFESTS.search(file.read()) is not None
    except OSError:
        return False


def version() -> str:
    """Returns the output of `-version`: name and version, then platform and runtime."""
    import platform

    runtime = f"{platform.python_implementation()} {platform.python_version()}"
    return f"svcdns-{__version__}\n{platform.system().lower()}/{platform.machine()}, {runtime}\n"


def _plugins() -> str:
    from svcdns.plugins import BUILT, outside

    return "".join(f"{name}\n" for name in sorted({*BUILT, *outside()}))
