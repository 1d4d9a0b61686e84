"""All fuzzing targets, by name."""

from __future__ import annotations

from typing import Final

from tests.fuzz import api, names, queries, quic, replies, states, streams, texts
from tests.fuzz.target import Target

TARGETS: Final[dict[str, Target]] = {
    one.name: one for group in (api, names, queries, quic, replies, streams, texts, states) for one in group.TARGETS
}
