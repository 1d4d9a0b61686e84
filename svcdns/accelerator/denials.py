"""Copies denials: negative replies that all names below a nonexistent label share (see `layout`).

The search domains of Pods lead to such names: `www.example.com.default.svc.cluster.local` has the closest encloser
`default.svc.cluster.local`, and its label `com` does not exist. Rules:

1. A denial is made from entries of the answer table. Each of these entries gets the label as a dependency. So the
   change that creates the label removes these entries and the denial, before the change is acknowledged.
2. A denial expires with the last of these entries, because the serial of its SOA record must not become too old.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from svcdns.accelerator.layout import (
    DENIAL_MAX_DEPTH,
    DENIAL_MIN_DEPTH,
    KEY_MAX,
    NAME_AT,
    SMALL,
    TAIL_MIN,
    UNLIKE,
)
from svcdns.accelerator.memory import Memory, Placed
from svcdns.plugin_api.closest_encloser import Encloser
from svcdns.serving.answer_table import Entry
from svcdns.serving.responder import Responder
from svcdns.wire.codes import Rcode
from svcdns.wire.errors import FormError
from svcdns.wire.request import read_query_name

RENEWED_AFTER: Final = 5_000_000_000
"""A denial is written again if a new entry ends later by at least this number of nanoseconds."""
_OPT_SIZE: Final = 11


class Shape(NamedTuple):
    """A denial as the program needs it: its key, its depth, and the last octets of its names.

    `question_end` is the number of octets of the query and of the reply before and with the question.
    """

    key: bytes
    question_end: int
    depth: int
    name_end: bytes


class _Denial(msgspec.Struct, gc=False, eq=False):
    """A denial in the memory, the time when it expires, and the keys of the entries from which it is made."""

    placed: Placed
    until: int
    keys: set[bytes]


class Denials:
    """The denials of one answer table."""

    def __init__(self, responder: Responder, memory: Memory, number: int) -> None:
        """`number` is the number of the answer table in the memory."""
        self._responder, self._memory, self._number = responder, memory, number
        self._denials: dict[bytes, _Denial] = {}
        self._shared: dict[bytes, bytes] = {}
        """The key of the denial that is made from an entry, by the key of the entry."""

    def put(self, entry: Entry, until: int) -> None:
        """Writes the denial that is made from an entry, if the entry's reply is correct for other names too.

        `until` is the time when the entry expires.
        """
        shape = self._shape(entry)
        if shape is None:
            return
        found = self._denials.get(shape.key)
        if found is not None:
            found.keys.add(entry.key)
            self._shared[entry.key] = shape.key
            if until < found.until + RENEWED_AFTER:
                return
            self._memory.remove(found.placed)
        placed = None
        if self._memory.denials.add(shape.key, shape.name_end, shape.depth):
            placed = self._memory.put(
                shape.key,
                entry.wires,
                self._number,
                entry.hit_counter,
                until,
                denial_of=(entry.key, shape.question_end),
            )
            if placed is None:
                self._memory.denials.remove(shape.key)
        if placed is None:
            self._forget(shape.key)
        elif found is not None:
            found.placed, found.until = placed, until
        else:
            self._denials[shape.key] = _Denial(placed, until, {entry.key})
            self._shared[entry.key] = shape.key

    def remove(self, key: bytes) -> None:
        """Removes an entry, and its denial if the denial is made from no other entry."""
        shared = self._shared.pop(key, None)
        if shared is None:
            return
        found = self._denials[shared]
        found.keys.discard(key)
        if not found.keys:
            self._memory.remove(found.placed)
            del self._denials[shared]

    def evict(self, placed: Placed) -> bool:
        """Removes a denial, but not its entries. Returns False if the denial is not in the memory."""
        found = self._denials.get(placed.key)
        if found is None or found.placed is not placed:
            return False
        self._memory.remove(placed)
        self._forget(placed.key)
        return True

    def take_all(self) -> list[Placed]:
        """Returns all denials, and clears this object. The caller removes the denials from the memory."""
        gone = [found.placed for found in self._denials.values()]
        self._denials.clear()
        self._shared.clear()
        return gone

    def _forget(self, shared: bytes) -> None:
        found = self._denials.pop(shared, None)
        for key in found.keys if found is not None else ():
            del self._shared[key]

    def _shape(self, entry: Entry) -> Shape | None:
        """Returns the denial that is made from an entry, or None if the entry's reply may be wrong for other names."""
        key, wire = entry.key, entry.wire
        if wire is None or wire[1] & 0xF != Rcode.NXDOMAIN or entry.details is not None:
            return None
        if key[0] & 0xF8 or key[2:9] != b"\0\1\0\0\0\0\0" or self._responder.listener.records_traffic:
            return None
        try:
            name, at = read_query_name(b"\0\0" + key)
        except FormError:
            return None
        question_end = at + 2
        if len(key) - question_end != (_OPT_SIZE if key[9] == 1 else 0) or key[9] > 1:
            return None
        lower = name.lower()
        encloser = self._encloser(entry, lower, int.from_bytes(key[at - 2 : at], "big"))
        if encloser is None or key[NAME_AT:question_end] != wire[NAME_AT:question_end]:
            return None
        found = _child(lower, encloser)
        if found is None:
            return None
        left, depth = found
        label = lower[left + 1 : len(name) - len(encloser.key)].decode("latin-1")
        shared = key[:NAME_AT] + bytes((left,)) + key[NAME_AT + left :]
        if len(shared) > KEY_MAX or not TAIL_MIN <= len(wire) - question_end <= SMALL:
            return None
        if not DENIAL_MIN_DEPTH <= depth <= DENIAL_MAX_DEPTH or len(name) < 8:
            return None
        if not entry.dependencies or encloser.child_kind is None or (encloser.scope, label) in encloser.children:
            return None
        if encloser.child_kind:
            scope = (encloser.scope,) if encloser.scope else ()
            self._responder.table.add_dependency(entry, (encloser.child_kind, *scope, label))
        return Shape(shared, question_end, depth, name[-8:])

    def _encloser(self, entry: Entry, name: bytes, rtype: int) -> Encloser | None:
        """Returns the closest encloser of `name`, if all nonexistent names below the encloser get the same reply."""
        find = entry.hit_counter.origin.route.closest_encloser
        found = None if find is None else find(name, rtype)
        if found is None or self._responder.listener.is_divided(found.key):
            return None
        if found.unlike not in (b"", UNLIKE) or name.startswith(UNLIKE):
            return None
        return found


def _child(name: bytes, encloser: Encloser) -> tuple[int, int] | None:
    """Returns the offset of the label below the encloser in `name`, and its number from the end of the name."""
    end = len(name) - len(encloser.key)
    at, below, depth = 0, -1, 0
    while name[at]:
        if at < end:
            below = at
        else:
            depth += 1
        at += 1 + name[at]
    return (below, depth + 1) if below >= 0 and name[end:] == encloser.key else None
