"""The program `svcdns`, which can also be installed under the name `coredns`.

Before anything else, it binds the DNS ports if the Corefile is plain (`svcdns.cli.early_addresses`). Then it restarts
itself in an isolated interpreter (`svcdns.process.isolated`).
"""

import os
import sys

from svcdns.process import isolated

TOOLS = (
    "accelerate",
    "cache",
    "check",
    "completion",
    "explain",
    "interface",
    "man",
    "probe",
    "query",
    "ready",
    "shadow",
    "top",
)
"""The commands of `svcdns.cli.commands`; that module is loaded only for one of them."""

with isolated.StandardLibraryOnly():
    from svcdns.cli import early_addresses
    from svcdns.supervisor import early_sockets


def main() -> int:
    """Runs the command that the first argument names, or the server if there is none. Returns the exit code."""
    name = sys.argv[0].rpartition("/")[2]
    program, arguments = name if name != "__main__.py" else "svcdns", sys.argv[1:]
    early = early_sockets.received() or early_sockets.bind(early_addresses.of_command_line(arguments))
    if early and not isolated.is_isolated():
        early_sockets.leave(early)
    isolated.ensure(program, *arguments)
    if arguments[:1] == ["demo"]:
        from svcdns.cli import demo

        return demo.run(arguments[1:])
    if arguments[:1] == ["conformance"]:
        from svcdns.cli import conformance

        return conformance.run(arguments[1:])
    if (arguments and arguments[0] in TOOLS) or "_SVCDNS_COMPLETE" in os.environ:
        from svcdns.cli import commands

        return commands.run(arguments)
    from svcdns.cli import serve

    if arguments[:1] == ["serve"]:
        return serve.run(arguments[1:], f"{program} serve", early)
    return serve.run(arguments, program, early)


if __name__ == "__main__":
    sys.exit(main())
