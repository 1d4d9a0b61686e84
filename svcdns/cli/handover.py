"""The name under which a program before the preflight check got its own module starts that check: an alias of `svcdns.cli.preflight`."""

from __future__ import annotations

import sys

from svcdns.cli.preflight import main

if __name__ == "__main__":
    sys.exit(main())
