"""The closest encloser of a nonexistent name, for negative answers that many names share."""

from __future__ import annotations

from collections.abc import Callable, Container

import msgspec

from svcdns.cluster.changes import Dependency


class Encloser(msgspec.Struct, frozen=True, gc=False):
    """The closest encloser (RFC 4592 §3.3.1) of a nonexistent name, with the labels that exist below it.

    Every name below `key` (lowered wire name) whose next label is not in `children` gets the same negative answer, for
    the same type. `children` holds (`scope`, label) pairs and changes with the cluster; labels are lowered Latin-1
    text. Names that begin with `unlike` (lowered wire octets) are excepted. The answer depends on `dependencies`.
    """

    key: bytes
    scope: str
    children: Container[tuple[str, str]]
    unlike: bytes = b""
    dependencies: tuple[Dependency, ...] = ()


FindEncloser = Callable[[bytes, int], Encloser | None]
"""Finds the closest encloser of a nonexistent name (lowered wire name) for a type; None where other names may get
another answer.
"""
