"""The trial before an upgrade in place: `python -m svcdns.cli.preflight`. Run by the supervisor of the program that is to be upgraded.

It loads what control, workers and supervisor consist of, and prints which hand-over this program understands, and its version.
"""

from __future__ import annotations

import sys

import svcdns.control.__main__
import svcdns.supervisor.__main__  # noqa: F401 - loading all three is the trial
from svcdns import __version__
from svcdns.feed.format import handover_format


def main() -> int:
    """Prints the line; 0."""
    sys.stdout.write(f"{handover_format()} {__version__}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
