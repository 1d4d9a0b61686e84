"""Starts a worker under the module name that earlier versions use. The worker itself is `svcdns.worker`.

During an upgrade, a supervisor of an earlier version may start a worker by this module name.
"""

import os
import sys

from svcdns.process import isolated


def main() -> int:
    """Replaces this process by a worker. Does not return."""
    command = isolated.command("svcdns.worker", *sys.argv[1:])
    os.execv(command[0], command)


if __name__ == "__main__":
    sys.exit(main())
