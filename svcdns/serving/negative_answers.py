"""Answers about names that are not there, without asking the chain for each: random names must not cost more than they are worth.

Below a name that exists (the closest encloser, RFC 4592 §3.3.1) all names that lead on with a label which it does not have get the same
answer but for the question. Such an answer is compiled once for all names that are as long; for the next such name it only takes a look
whether the label has come into being (`chain.routing.Encloser`). A route has this where every plugin in front of the one that knows the
names treats all of them alike.

Rule: an answer made here is, to the octet, the one that the chain would have given; whatever is in doubt goes to the chain.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.closest_encloser import Encloser
from svcdns.serving.metrics import HitCounter
from svcdns.wire import names
from svcdns.wire.errors import FormError
from svcdns.wire.request import read_plain_name

MOST: Final = 4096
"""Answers that are kept; one more, and all are made anew."""
LONGEST: Final = 512
"""Octets of a reply that is kept, so that one always has room in a batch; the chain's answers of this kind have half of it."""
_PLAIN_OPT: Final = 11
"""Octets of an OPT record without options."""
_NAME_AT: Final = 10
"""Where the name begins behind the id."""
_LENGTHS: Final = tuple(bytes((length,)) for length in range(256))


class NegativeAnswer:
    """The answer for all names of one length that an encloser lacks. Each use counts in `hit_counter`.

    `head` is the reply's header behind the id, `tail` what follows its question; `beyond` are the octets of a request behind the question.
    """

    __slots__ = ("beyond", "encloser", "head", "hit_counter", "tail")

    def __init__(self, head: bytes, tail: bytes, beyond: int, encloser: Encloser, hit_counter: HitCounter) -> None:
        """Not used yet."""
        self.head, self.tail, self.beyond, self.encloser, self.hit_counter = head, tail, beyond, encloser, hit_counter


class NegativeAnswers:
    """The answers of one table, by what the packets have in common that they answer: all but the labels left of the encloser."""

    def __init__(self) -> None:
        self._known: dict[bytes, NegativeAnswer] = {}
        self._owners: set[Dependency] = set()

    def find(self, key: bytes) -> NegativeAnswer | None:
        """The answer to a packet, given behind its id; None where the chain has to be asked."""
        known, head = self._known, key[:_NAME_AT]
        at, end = _NAME_AT, len(key) - 5
        while at < end:
            length = key[at]
            if not 0 < length <= names.MAX_LABEL:
                return None
            label_at, at = at + 1, at + 1 + length
            if at > end:
                return None
            found = known.get(head + _LENGTHS[at - _NAME_AT & 0xFF] + key[at:])
            if found is not None:
                encloser = found.encloser
                if (encloser.scope, key[label_at:at].lower().decode("latin-1")) in encloser.children:
                    return None
                if encloser.unlike and key[_NAME_AT:at].lower().startswith(encloser.unlike):
                    return None
                return found
        return None

    def note(self, packet: bytes, wire: bytes, encloser: Encloser, hit_counter: HitCounter) -> None:
        """Keeps the reply to a packet as the answer for all such names; it is to have come from the chain just now."""
        if len(wire) > LONGEST or packet[2] & 0xF8 or packet[4:10] != b"\0\1\0\0\0\0":
            return
        try:
            name, at = read_plain_name(packet)
        except FormError:
            return
        beyond = len(packet) - at - 4
        if beyond != (_PLAIN_OPT if packet[10:12] == b"\0\1" else 0) or packet[12 : at + 4] != wire[12 : at + 4]:
            return
        if len(self._known) >= MOST:
            self._known.clear()
        left = len(name) - len(encloser.key)
        shape = packet[2:12] + _LENGTHS[left] + packet[12 + left :]
        self._known[shape] = NegativeAnswer(wire[2:12], wire[at + 4 :], beyond, encloser, hit_counter)
        self._owners.update(encloser.dependencies)

    def invalidate(self, dependencies: Collection[Dependency]) -> None:
        """Drops all answers if what one of them rests on has changed."""
        if self._known and not self._owners.isdisjoint(dependencies):
            self.clear()

    def clear(self) -> None:
        """Drops all answers."""
        self._known.clear()
        self._owners.clear()
