"""Negative answers for names that do not exist, without a run of the chain for each: random names must not be
expensive.

Below a name that exists (the closest encloser, RFC 4592 §3.3.1), all names whose next label it does not have get the
same answer, apart from the question section. Such an answer is encoded once for all names of one length. The next such
name only needs a check whether the label exists by now (`plugin_api.closest_encloser`). A route has this where every
plugin in front of the one that knows the names gives the same answer for all of them (`name_independent`).

Rule: an answer made here is, to the octet, the one that the chain gives; any other query goes to the chain.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from svcdns.cluster.changes import Dependency
from svcdns.plugin_api.closest_encloser import Encloser
from svcdns.serving.metrics import HitCounter
from svcdns.wire import names
from svcdns.wire.errors import FormError
from svcdns.wire.request import read_query_name

MAX_ANSWERS: Final = 4096
"""Answers that are kept; one more, and all are made anew."""
MAX_REPLY: Final = 512
"""Octets of a reply that is kept, so that it always fits into a batch; the chain's answers of this kind have half of
it."""
_OPT_SIZE: Final = 11
"""Octets of an OPT record without options."""
_NAME_AT: Final = 10
"""Where the name begins in a packet without its id."""
_LENGTHS: Final = tuple(bytes((length,)) for length in range(256))


class NegativeAnswer:
    """The answer for all names of one length that an encloser does not have. Each use counts in `hit_counter`.

    `head` is the reply's header without its id, `tail` what follows its question section. `request_tail` is the number
    of octets of a request that follow its question section.
    """

    __slots__ = ("encloser", "head", "hit_counter", "request_tail", "tail")

    def __init__(
        self, head: bytes, tail: bytes, request_tail: int, encloser: Encloser, hit_counter: HitCounter
    ) -> None:
        """Not used yet."""
        self.head, self.tail, self.request_tail, self.encloser, self.hit_counter = (
            head,
            tail,
            request_tail,
            encloser,
            hit_counter,
        )


class NegativeAnswers:
    """The answers of one table, by what the packets have in common that they answer: all but the labels in front of the
    encloser."""

    def __init__(self) -> None:
        self._answers: dict[bytes, NegativeAnswer] = {}
        self._dependencies: set[Dependency] = set()

    def find(self, key: bytes) -> NegativeAnswer | None:
        """The answer to a packet without its id; None where the chain has to be asked."""
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

    def note(self, packet: bytes, wire: bytes, encloser: Encloser, hit_counter: HitCounter) -> None:
        """Keeps the reply to a packet as the answer for all such names; the chain has given it just now."""
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
        self._answers[shape] = NegativeAnswer(wire[2:12], wire[at + 4 :], request_tail, encloser, hit_counter)
        self._dependencies.update(encloser.dependencies)

    def invalidate(self, dependencies: Collection[Dependency]) -> None:
        """Drops all answers if one of them depends on one of these."""
        if self._answers and not self._dependencies.isdisjoint(dependencies):
            self.clear()

    def clear(self) -> None:
        """Drops all answers."""
        self._answers.clear()
        self._dependencies.clear()
