"""Which hand-over this program understands."""

from __future__ import annotations

import subprocess
import sys

from svcdns.feed.format import handover_format
from svcdns.process.shared_memory import HANDOVER


def test_the_same_in_every_process() -> None:
    """Whatever its hash seed."""
    program = "from svcdns.feed.format import handover_format; print(handover_format())"
    other = subprocess.run([sys.executable, "-c", program], env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True)
    assert other.stdout.strip() == handover_format()
    number, _, digest = handover_format().partition(".")
    assert int(number) == HANDOVER
    assert len(digest) == 12
