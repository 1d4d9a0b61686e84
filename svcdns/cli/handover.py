"""The name under which earlier builds run the preflight check: an alias of `svcdns.cli.preflight`."""

import sys

from svcdns.process import isolated


def main() -> int:
    """Runs the check; its exit code."""
    isolated.ensure("svcdns.cli.preflight")
    from svcdns.cli import preflight

    return preflight.main()


if __name__ == "__main__":
    sys.exit(main())
