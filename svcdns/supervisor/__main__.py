"""The supervisor of an upgraded program: `python -m svcdns.supervisor --adopt FD`. Run by the one before it, in its own process."""

from __future__ import annotations

import argparse
import sys

from svcdns.supervisor.process import go_on


def main() -> int:
    """Goes on where the program before this one has stopped; the exit code."""
    parser = argparse.ArgumentParser(prog="svcdns.supervisor")
    parser.add_argument("--adopt", type=int, required=True)
    return go_on(parser.parse_args().adopt)


if __name__ == "__main__":
    sys.exit(main())
