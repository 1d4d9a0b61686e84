"""The preflight check before an upgrade in place: `svcdns.cli.preflight`. The supervisor that is to be upgraded runs
it.

It loads what control, workers and supervisor consist of, and prints the hand-over format that this program understands,
and its version.
"""

from __future__ import annotations

import sys

import svcdns.control.__main__
import svcdns.supervisor.process
import svcdns.worker.__main__  # noqa: F401 - to load all three is the check
from svcdns import __version__
from svcdns.feed.format import handover_format


def main() -> int:
    """Prints the line; 0."""
    sys.stdout.write(f"{handover_format()} {__version__}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
