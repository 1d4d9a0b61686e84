"""The hand-over format: tells whether two versions of this program understand each other in an upgrade in place.

The format includes the shape of every frame between the control process and workers, without names and docstrings.
Rule: if the meaning of a frame changes and its shape does not, increment `HANDOVER`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

import msgspec

from svcdns.feed.frames import ToControl, ToWorker
from svcdns.process.shared_memory import HANDOVER

_NAMES: Final = {"389bf62f4c62": "4928935a2f90"}
"""Replaces a digest by the one that earlier builds compute for shapes that both builds understand.

Earlier builds included names and docstrings in their digest. They do not have the last fields of Namespace (`labels`),
Pod (`more_ips`, `host_network`, `labels`) and Configured (`takes_calls`): they ignore these fields, and this build uses
the defaults for objects without them. They never get or send Call and Returned.
"""
_NOT_SENT: Final = frozenset({"title", "description"})


def handover_format() -> str:
    """Returns the hand-over format: its number, and a digest of the shapes of all frames, as `1.0a1b2c3d4e5f`."""
    digest = shape_digest(ToWorker | ToControl)
    return f"{HANDOVER}.{_NAMES.get(digest, digest)}"


def shape_digest(kinds: Any) -> str:
    """Returns a digest of the fields of the frame types in the union `kinds`.

    The digest does not depend on the names of the types.
    """
    schema = msgspec.json.schema(kinds)
    text = json.dumps(_shape(schema, schema.get("$defs", {}), ()), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _shape(part: Any, types: dict[str, Any], within: tuple[str, ...]) -> Any:
    """Returns a part of a JSON schema in which references to types are replaced by their definitions.

    Inside a recursive type, a reference is replaced by the number of levels up to the definition.
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
    if "anyOf" in out:  # the order of the members does not matter: each has a tag
        out["anyOf"].sort(key=lambda member: json.dumps(member, sort_keys=True))
    return out
