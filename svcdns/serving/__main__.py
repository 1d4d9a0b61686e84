"""Starts a worker under the module name that earlier builds use; the worker itself is `svcdns.worker`.

During an upgrade, a supervisor of an earlier build may still run after the new program was installed. If a worker ends
in that time, that supervisor starts a new worker by this module name.
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
