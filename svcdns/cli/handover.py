"""An alias of `svcdns.cli.preflight`, because earlier versions run the preflight check under this name."""

import sys

from svcdns.process import isolated


def main() -> int:
    """Runs the preflight check, and returns its exit code."""
    isolated.ensure("svcdns.cli.preflight")
    from svcdns.cli import preflight

    return preflight.main()


if __name__ == "__main__":
    sys.exit(main())
