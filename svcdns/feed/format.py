"""The hand-over format: whether two versions of this program understand each other during an upgrade in place.

While an upgrade goes on, control and workers of two versions talk to each other, so the shape of every frame between
them is part of the format. Names and docstrings are not: they do not travel.

Rule: a change of meaning that leaves the shapes as they are, such as two text fields that change places, raises
`HANDOVER`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

import msgspec

from svcdns.feed.frames import ToControl, ToWorker
from svcdns.process.shared_memory import HANDOVER

_NAMES: Final = {"4086c6752f2e": "4928935a2f90"}
"""Digests that go by another name. Earlier builds took names and docstrings into theirs; this is what they print for
these shapes.
"""
_NOT_SENT: Final = frozenset({"title", "description"})


def handover_format() -> str:
    """The hand-over's number, and a digest of all frames' shapes: `1.0a1b2c3d4e5f`."""
    digest = shape_digest(ToWorker | ToControl)
    return f"{HANDOVER}.{_NAMES.get(digest, digest)}"


def shape_digest(kinds: Any) -> str:
    """The digest of the shapes of a union of frame types: what is on the wire, whatever the types are called."""
    schema = msgspec.json.schema(kinds)
    text = json.dumps(_shape(schema, schema.get("$defs", {}), ()), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _shape(part: Any, types: dict[str, Any], within: tuple[str, ...]) -> Any:
    """A part of a JSON schema with every type written out in its place; a type within itself is a number: how far out
    that is.
    """
    if isinstance(part, list):
        return [_shape(one, types, within) for one in part]
    if not isinstance(part, dict):
        return part
    reference = part.get("$ref")
    if reference is not None:
        name = reference.rpartition("/")[2]
        return within[::-1].index(name) if name in within else _shape(types[name], types, (*within, name))
    out = {key: _shape(value, types, within) for key, value in part.items() if key not in _NOT_SENT and key != "$defs"}
    if "anyOf" in out:  # tags tell the members apart, not their order
        out["anyOf"].sort(key=lambda member: json.dumps(member, sort_keys=True))
    return out
