"""Entry point of the supervisor in an upgrade in place: `svcdns.supervisor --adopt FD`.

The old supervisor executes it in its own process (execve(2)).
"""

import sys

from svcdns.process import isolated


def main() -> int:
    """Takes over the state and the children of the old supervisor, and runs. Returns the exit code."""
    isolated.ensure("svcdns.supervisor", *sys.argv[1:])  # earlier versions start this module by `python -m`
    import argparse

    from svcdns.supervisor.process import resume

    parser = argparse.ArgumentParser(prog="svcdns.supervisor")
    parser.add_argument("--adopt", type=int, required=True)
    return resume(parser.parse_args().adopt)


if __name__ == "__main__":
    sys.exit(main())
