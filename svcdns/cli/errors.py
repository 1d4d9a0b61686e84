"""The error of a command that cannot do its work."""

from __future__ import annotations

import click


class CannotRun(click.ClickException):
    """Raised to end a command with one line on standard error, and with exit code 2."""

    exit_code = 2
