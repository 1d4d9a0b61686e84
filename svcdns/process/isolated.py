"""Starts Python interpreters that import only this program's code and the packages installed with it.

Such an interpreter ignores the working directory and the variables `PYTHON*`. The interpreter also ignores the user's
own site-packages, unless svcdns is installed there. This file is also the script that it runs. Rules:

1. The path of this file is part of the hand-over format.
2. This file, and modules that call `ensure`, import only modules that every interpreter has already loaded.
"""

import os
import site
import sys

_SCRIPT = os.path.abspath(__file__)  # noqa: PTH100 - pathlib is not loaded yet where this is a script
_PACKAGE = "svcdns"


def command(program: str, *arguments: str) -> list[str]:
    """Returns the command line that runs `program` in an isolated interpreter.

    `program` is a module, run as by `python -m`, or the name under which the user called the command.
    """
    isolation = ("-E", "-P") if _installed_for_user() else ("-I",)
    bytecode = ("-B",) if sys.dont_write_bytecode else ()
    return [sys.executable, *isolation, "-S", *bytecode, _SCRIPT, program, *arguments]


def ensure(program: str, *arguments: str) -> None:
    """Restarts this process in an isolated interpreter, and then does not return.

    Returns if the present interpreter is isolated already.
    """
    if not is_isolated():
        os.execv(sys.executable, command(program, *arguments))


def is_isolated() -> bool:
    """Returns True if the present interpreter is isolated, as by `command`."""
    return bool(sys.flags.ignore_environment and sys.flags.safe_path)


class StandardLibraryOnly:
    """Context manager in which new modules are imported only from the standard library and from loaded packages."""

    def __enter__(self) -> None:
        """Removes all folders but those of the standard library from the search path."""
        self._path = sys.path[:]
        library = os.path.dirname(os.__file__)  # noqa: PTH120 - as above
        sys.path[:] = [folder for folder in self._path if folder in (library, os.path.join(library, "lib-dynload"))]  # noqa: PTH118

    def __exit__(self, *_error: object) -> None:
        """Restores the search path."""
        sys.path[:] = self._path


def _installed_for_user() -> bool:
    """Returns True if svcdns is installed in the user's own site-packages (PEP 370), and these are enabled."""
    if not site.ENABLE_USER_SITE:
        return False
    try:
        there = os.listdir(site.getusersitepackages())  # noqa: PTH208 - as above
    except OSError:
        return False
    return any(name.startswith(f"{_PACKAGE}-") and name.endswith(".dist-info") for name in there)


def _main() -> None:
    """Runs the program that the command line, made by `command`, names."""
    import runpy

    del sys.argv[0]
    program = sys.argv[0]
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(_SCRIPT))))  # noqa: PTH120
    site.main()  # not at the start (`-S`), so that installed packages are searched after the program's own folder
    if program.startswith(f"{_PACKAGE}."):
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        runpy.run_module(_PACKAGE, run_name="__main__")


if __name__ == "__main__":
    _main()
