"""The closest encloser of a nonexistent name, for negative answers that many names share."""

from __future__ import annotations

from collections.abc import Callable, Container

import msgspec

from svcdns.cluster.changes import Dependency


class Encloser(msgspec.Struct, frozen=True, gc=False):
    """The closest encloser (RFC 4592 §3.3.1) of a nonexistent name, with the labels that exist below it.

    - `key` is the name of the encloser, in wire format and lower case.
    - `children` has the pair (`scope`, label) for each label directly below `key`, and changes with the cluster. Labels
      are lower-case text, decoded as Latin-1.
    - `child_kind` is the kind of the dependencies of these labels: (`child_kind`, `scope`, label), or without a scope
      (`child_kind`, label). An empty `child_kind` means that the labels never change. None means that the accelerator
      must not share replies.
    - All other names below `key` get the same negative answer for a query type. This answer depends on `dependencies`.
    - Names that begin with the octets `unlike` (wire format, lower case), if these are not empty, get another answer.
    """

    key: bytes
    scope: str
    children: Container[tuple[str, str]]
    unlike: bytes = b""
    dependencies: tuple[Dependency, ...] = ()
    child_kind: str | None = None


FindEncloser = Callable[[bytes, int], Encloser | None]
"""Returns the closest encloser of a nonexistent name (wire format, lower case) for a query type.

Returns None if other names below the encloser may get other answers.
"""
