"""The preflight check before an upgrade in place: a trial run of the new program, started by the old supervisor.

The check imports everything that the processes consist of. Then it prints the hand-over format and the version.
"""

from __future__ import annotations

import sys

import svcdns.control.__main__
import svcdns.control.program
import svcdns.supervisor.process
import svcdns.worker.__main__  # noqa: F401 - to load all three is the check
from svcdns import __version__
from svcdns.feed.format import handover_format


def main() -> int:
    """Prints the hand-over format (what two versions must have in common for an upgrade in place) and the version."""
    sys.stdout.write(f"{handover_format()} {__version__}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
