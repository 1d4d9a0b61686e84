"""The supervisor of an upgraded program: `svcdns.supervisor --adopt FD`. The supervisor before it runs it in its own process."""

import sys

from svcdns.process import isolated


def main() -> int:
    """Goes on where the program before this one has stopped; the exit code."""
    isolated.ensure("svcdns.supervisor", *sys.argv[1:])  # version 0.1.0 starts it by `python -m`
    import argparse

    from svcdns.supervisor.process import go_on

    parser = argparse.ArgumentParser(prog="svcdns.supervisor")
    parser.add_argument("--adopt", type=int, required=True)
    return go_on(parser.parse_args().adopt)


if __name__ == "__main__":
    sys.exit(main())
