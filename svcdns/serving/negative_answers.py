"""Negative answers that many nonexistent names share, so that queries for random names are cheap.

Nonexistent names with the same closest encloser (RFC 4592 §3.3.1) get the same answer, apart from the question section.
The answer is encoded once for all names of one length. Rules: a shared answer equals the plugin chain's answer in every
octet. Answers are shared only if all plugins before the one that knows the names permit it (`Plugin.name_independent`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.closest_encloser import Encloser
from svcdns.plugin_api.rate_limit import LimitedReply
from svcdns.serving.metrics import HitCounter
from svcdns.wire import names
from svcdns.wire.errors import FormError
from svcdns.wire.request import read_query_name

MAX_ANSWERS: Final = 4096
"""The most answers that are kept. When another answer is added, all are dropped, and made again on demand."""
MAX_REPLY: Final = 512
"""The largest reply in octets that is kept, so that each fits into a batch.

Typical negative answers of the chain have half of this size.
"""
_OPT_SIZE: Final = 11
"""The octets of an OPT record without options."""
_NAME_AT: Final = 10
"""The offset of the query name in a packet without its message id."""
_EXTRA_AT: Final = 9
"""The offset of the last octet of ARCOUNT in a packet without its message id."""
_END_SIZE: Final = 16
_LENGTHS: Final = tuple(bytes((length,)) for length in range(256))


class NegativeAnswer:
    """A negative answer for all nonexistent names of one length that have the same closest encloser.

    `head` is the header of the reply without its message id. `tail` has the octets after the question section.
    `request_tail` is the number of octets after the question section in a request. `limited` has the rate limiter and
    the account of the answer, or is None.
    """

    __slots__ = ("encloser", "head", "hit_counter", "limited", "request_tail", "tail")

    def __init__(
        self,
        head: bytes,
        tail: bytes,
        request_tail: int,
        encloser: Encloser,
        hit_counter: HitCounter,
        limited: LimitedReply | None,
    ) -> None:
        """Stores each argument as the attribute of that name."""
        self.limited = limited
        self.head, self.tail, self.request_tail, self.encloser, self.hit_counter = (
            head,
            tail,
            request_tail,
            encloser,
            hit_counter,
        )


class NegativeAnswers:
    """The negative answers of one answer table.

    The key of an answer is the part of the packet that all its queries have in common: all octets except the message id
    and the labels left of the closest encloser.
    """

    def __init__(self) -> None:
        self._answers: dict[bytes, NegativeAnswer] = {}
        self._ends: set[bytes] = set()
        """The last octets of the question sections of all answers. Other names need no further look-up."""
        self._has_ends = True
        """False if an encloser is so short that queries for names below it have no common end of _END_SIZE octets."""
        self._dependencies: set[Dependency] = set()

    def find(self, key: bytes) -> NegativeAnswer | None:
        """Returns the answer to a packet, given without its message id.

        Returns None if the plugin chain must answer.
        """
        last = len(key) - _OPT_SIZE if key[_EXTRA_AT : _EXTRA_AT + 1] == b"\1" else len(key)
        begin = last - _END_SIZE
        if self._has_ends and key[begin if begin > _NAME_AT else _NAME_AT : last] not in self._ends:
            return None
        answers, head = self._answers, key[:_NAME_AT]
        at, end = _NAME_AT, len(key) - 5
        while at < end:
            length = key[at]
            if not 0 < length <= names.MAX_LABEL:
                return None
            label_at, at = at + 1, at + 1 + length
            if at > end:
                return None
            found = answers.get(head + _LENGTHS[at - _NAME_AT & 0xFF] + key[at:])
            if found is not None:
                encloser = found.encloser
                if (encloser.scope, key[label_at:at].lower().decode("latin-1")) in encloser.children:
                    return None
                if encloser.unlike and key[_NAME_AT:at].lower().startswith(encloser.unlike):
                    return None
                return found
        return None

    def find_below(self, key: bytes, name: bytes, left: int) -> NegativeAnswer | None:
        """Returns the answer to a packet, as `find` does. Call it only for a name that does not exist.

        `name` is the query name in lower case. `left` octets of the name are left of its closest encloser.
        """
        found = self._answers.get(key[:_NAME_AT] + _LENGTHS[left & 0xFF] + key[_NAME_AT + left :])
        if found is not None and found.encloser.unlike and name.startswith(found.encloser.unlike):
            return None
        return found

    def note(
        self,
        packet: bytes,
        wire: bytes,
        encloser: Encloser,
        hit_counter: HitCounter,
        limited: LimitedReply | None = None,
    ) -> None:
        """Stores the reply to `packet` for all nonexistent names of the same length that have the closest encloser
        `encloser`.

        Call it only for a reply that the plugin chain has just made.
        """
        if len(wire) > MAX_REPLY or packet[2] & 0xF8 or packet[4:10] != b"\0\1\0\0\0\0":
            return
        try:
            name, at = read_query_name(packet)
        except FormError:
            return
        request_tail = len(packet) - at - 4
        if request_tail != (_OPT_SIZE if packet[10:12] == b"\0\1" else 0) or packet[12 : at + 4] != wire[12 : at + 4]:
            return
        if len(self._answers) >= MAX_ANSWERS:
            self.clear()
        left = len(name) - len(encloser.key)
        shape = packet[2:12] + _LENGTHS[left] + packet[12 + left :]
        self._ends.add(packet[at + 4 - _END_SIZE : at + 4])
        self._has_ends = self._has_ends and at + 4 - _END_SIZE >= 12 + left
        self._answers[shape] = NegativeAnswer(wire[2:12], wire[at + 4 :], request_tail, encloser, hit_counter, limited)
        self._dependencies.update(encloser.dependencies)

    def invalidate(self, dependencies: Collection[Dependency]) -> None:
        """Drops all answers if one of them was made from one of the objects in `dependencies`."""
        if self._answers and not self._dependencies.isdisjoint(dependencies):
            self.clear()

    def clear(self) -> None:
        """Drops all answers."""
        self._answers.clear()
        self._ends.clear()
        self._has_ends = True
        self._dependencies.clear()
