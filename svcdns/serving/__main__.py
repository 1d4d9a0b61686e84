"""Starts a worker under the module name that earlier builds use; the worker itself is `svcdns.worker`.

A supervisor of an earlier build uses this name during an upgrade: a worker may end after the new program was installed,
and before the new supervisor runs.
"""

import os
import sys

from svcdns.process import isolated


def main() -> int:
    """Replaces this process by a worker; does not return."""
    command = isolated.command("svcdns.worker", *sys.argv[1:])
    os.execv(command[0], command)


if __name__ == "__main__":
    sys.exit(main())
