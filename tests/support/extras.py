"""A server in an environment that has the extras of svcdns, which the environment of the tests does not have."""

from __future__ import annotations

import os
from typing import Final

import pytest

from tests.support.server import Server

PYTHON: Final = os.environ.get("SVCDNS_TEST_EXTRAS", "")
"""The Python of the environment, or empty."""
needs_extras = pytest.mark.skipif(
    not PYTHON, reason="SVCDNS_TEST_EXTRAS does not name a Python with the extras of svcdns and moto"
)


class ExtrasServer(Server):
    """A running `svcdns` with the extras."""

    def command(self) -> list[str]:
        """Returns the command that starts the program."""
        return [PYTHON, "-m", "svcdns"]
