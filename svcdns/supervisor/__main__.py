"""The supervisor after an upgrade in place: `svcdns.supervisor --adopt FD`. The supervisor before it executes it in the
same process.
"""

import sys

from svcdns.process import isolated


def main() -> int:
    """Goes on from the state that the supervisor before it has left; the exit code."""
    isolated.ensure("svcdns.supervisor", *sys.argv[1:])  # earlier builds start it by `python -m`
    import argparse

    from svcdns.supervisor.process import resume

    parser = argparse.ArgumentParser(prog="svcdns.supervisor")
    parser.add_argument("--adopt", type=int, required=True)
    return resume(parser.parse_args().adopt)


if __name__ == "__main__":
    sys.exit(main())
