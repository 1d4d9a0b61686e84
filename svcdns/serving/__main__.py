"""The name under which earlier builds start a worker: an alias of `svcdns.worker`.

Their supervisor uses it where a worker ends after the new program has been installed and before the upgrade.
"""

import os
import sys

from svcdns.process import isolated


def main() -> int:
    """Runs a worker in this process; does not return."""
    command = isolated.command("svcdns.worker", *sys.argv[1:])
    os.execv(command[0], command)


if __name__ == "__main__":
    sys.exit(main())
