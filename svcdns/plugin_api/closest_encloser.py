"""The closest encloser of a nonexistent name, for negative answers that many names share."""

from __future__ import annotations

from collections.abc import Callable, Container

import msgspec

from svcdns.cluster.changes import Dependency


class Encloser(msgspec.Struct, frozen=True, gc=False):
    """The closest encloser (RFC 4592 §3.3.1) of a name that is not there: what it has, so that what it lacks is known too.

    Names below `key` (lowered) whose label next to it is none of its `children` get the answer that the missing name gets, for the same
    type. `children` is live; it holds (`scope`, label) for each of them, the label lowered and read as Latin-1. Names that begin with
    `unlike` (lowered wire octets) are left out. The answer rests on `dependencies`.
    """

    key: bytes
    scope: str
    children: Container[tuple[str, str]]
    unlike: bytes = b""
    dependencies: tuple[Dependency, ...] = ()


FindEncloser = Callable[[bytes, int], Encloser | None]
"""What encloses a name (lowered) that the chain found not to exist for a type; None where other names may get another answer."""
