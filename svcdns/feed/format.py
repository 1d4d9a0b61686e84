"""Which hand-over this program understands: a program with another one cannot take over from it in place.

While an upgrade goes on, control and workers of two versions talk to each other, so the shape of every frame between them is part of it.
"""

from __future__ import annotations

import hashlib
import json

import msgspec

from svcdns.feed.frames import ToControl, ToWorker
from svcdns.process.shared_memory import HANDOVER


def handover_format() -> str:
    """The hand-over's number, and a digest of all frames' shapes: `1.0a1b2c3d4e5f`."""
    shapes = json.dumps(msgspec.json.schema(ToWorker | ToControl), sort_keys=True)
    return f"{HANDOVER}.{hashlib.sha256(shapes.encode()).hexdigest()[:12]}"
