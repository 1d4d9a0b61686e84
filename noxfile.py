"""The tests with every CPython that svcdns supports: `make versions`.

An interpreter that is not installed is skipped with a warning.
"""

from __future__ import annotations

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "venv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False  # nox makes it an error where the variable CI is set
nox.options.reuse_venv = "yes"


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def tests(session: nox.Session) -> None:
    """The tests that `make test` runs, or those that the arguments after `--` choose."""
    session.install("--quiet", "--require-hashes", "-r", "requirements-dev.lock")
    session.install("--quiet", "--no-deps", "--no-build-isolation", "-e", ".")
    session.run("python", "-m", "pytest", *session.posargs)
