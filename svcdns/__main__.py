"""The program `svcdns`, also callable under the name `coredns`."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> int:
    """Runs the command that the first argument names; without one, the server."""
    prog = Path(sys.argv[0]).name if Path(sys.argv[0]).name != "__main__.py" else "svcdns"
    arguments = sys.argv[1:]
    if arguments[:1] == ["demo"]:
        from svcdns.cli import demo

        return demo.run(arguments[1:])
    if arguments[:1] == ["conformance"]:
        from svcdns.cli import conformance

        return conformance.run(arguments[1:])
    from svcdns.cli import serve

    if arguments[:1] == ["serve"]:
        return serve.run(arguments[1:], f"{prog} serve")
    return serve.run(arguments, prog)


if __name__ == "__main__":
    sys.exit(main())
