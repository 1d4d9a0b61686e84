"""Interpreters that run this program's code and the installed packages, and nothing else.

`python -m` looks for modules in the working directory first, and `PYTHONPATH` names further folders. A file `queue.py`
there would run with the server's rights. So every process of this program is started by `command`: the interpreter
ignores the working directory, the variables `PYTHON*`, and the user's own site-packages unless svcdns is installed in
them. The program's own folder, where this file is, comes behind the standard library. The environment itself is passed
on as it is: exec plugins of a kubeconfig may need it.

This file is also the script that such an interpreter runs. Its place is part of the hand-over format: a supervisor of
an earlier version starts the new version by it. Rule: it imports what every interpreter has loaded already, and so do
the modules that call `ensure` before they call it. Even `__future__` and `typing` could come from elsewhere.
"""

import os
import site
import sys

_SCRIPT = os.path.abspath(__file__)  # noqa: PTH100 - pathlib is not loaded yet where this is a script
_PACKAGE = "svcdns"


def command(program: str, *arguments: str) -> list[str]:
    """The command line that runs `program` in an isolated interpreter.

    `program` is a module of this program, run as `python -m` would run it, or the name by which the command itself was
    called.
    """
    isolation = ("-E", "-P") if _installed_for_user() else ("-I",)
    bytecode = ("-B",) if sys.dont_write_bytecode else ()
    return [sys.executable, *isolation, "-S", *bytecode, _SCRIPT, program, *arguments]


def ensure(program: str, *arguments: str) -> None:
    """Goes on in an isolated interpreter, in the same process, where the present one is not isolated: then it does not
    return.
    """
    if not (sys.flags.ignore_environment and sys.flags.safe_path):
        os.execv(sys.executable, command(program, *arguments))


def _installed_for_user() -> bool:
    """Whether svcdns is installed in the user's own site-packages (PEP 370), and these are in use."""
    if not site.ENABLE_USER_SITE:
        return False
    try:
        there = os.listdir(site.getusersitepackages())  # noqa: PTH208 - as above
    except OSError:
        return False
    return any(name.startswith(f"{_PACKAGE}-") and name.endswith(".dist-info") for name in there)


def _main() -> None:
    """Runs the program that the command line names; it was made by `command`."""
    import runpy

    del sys.argv[0]
    program = sys.argv[0]
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(_SCRIPT))))  # noqa: PTH120
    site.main()  # `-S` has put it off, so that installed packages come behind the program's own folder
    if program.startswith(f"{_PACKAGE}."):
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        runpy.run_module(_PACKAGE, run_name="__main__")


if __name__ == "__main__":
    _main()
