"""Parses the command line of the server (docs/behaviour/corefile.md#command-line).

The flags are those of CoreDNS, with one dash or two: `-flag value` or `-flag=value`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exits with the usage and code 2, as CoreDNS does for an unknown flag."""
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: {message}\n")


def parser(prog: str) -> argparse.ArgumentParser:
    """Returns the argument parser of `svcdns` and `svcdns serve`."""
    out = _Parser(
        prog=prog,
        allow_abbrev=False,
        description="Cluster DNS for Kubernetes: serves what a Corefile says, with CoreDNS's command line.",
        epilog="Other commands: svcdns accelerate, svcdns cache, svcdns check, svcdns explain, svcdns interface, "
        "svcdns probe, svcdns query, svcdns ready, svcdns shadow, svcdns top, svcdns conformance, svcdns demo, "
        "svcdns completion, svcdns man. Each has its own -help.",
    )
    out.add_argument(
        "-conf", "--conf", metavar="FILE", help="Corefile to load (default: Corefile; 'stdin' reads standard input)"
    )
    out.add_argument(
        "-dns.port",
        "--dns.port",
        "-p",
        "--p",
        dest="port",
        type=int,
        default=53,
        metavar="PORT",
        help="port for keys without one",
    )
    out.add_argument("-pidfile", "--pidfile", metavar="FILE", help="write the process id to FILE")
    out.add_argument(
        "-pin", "--pin", action="store_true", help="keep each worker on a processor of its own (svcdns alone has this)"
    )
    out.add_argument("-plugins", "--plugins", action="store_true", help="list the plugins that are built, and exit")
    out.add_argument("-quiet", "--quiet", action="store_true", help="do not print zones and version at start")
    out.add_argument(
        "-state", "--state", metavar="FOLDER", default=os.environ.get("SVCDNS_STATE"),
        help="folder for data that outlives a start: the last good Corefile (default: SVCDNS_STATE; svcdns alone has this)",
    )  # fmt: skip
    out.add_argument("-version", "--version", action="store_true", help="print the version, and exit")
    out.add_argument("-help", action="help", help=argparse.SUPPRESS)
    out.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    return out


def parse(prog: str, argv: Sequence[str]) -> argparse.Namespace:
    """Parses the arguments. Exits with the usage and code 2 if a flag is unknown."""
    return parser(prog).parse_args([_two_dashes(word) for word in argv])


def _two_dashes(word: str) -> str:
    """Returns `--conf` for `-conf`, because argparse accepts abbreviations of flags with one dash."""
    return f"-{word}" if len(word) > 2 and word[0] == "-" != word[1] else word
