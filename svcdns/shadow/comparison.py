"""Compares two replies to one query, and finds the kinds of their differences."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from svcdns.conformance.replies import Line, Reply, read_reply
from svcdns.shadow.asking import Received
from svcdns.wire.codes import AA, AD, RA, TC, Type, rcode_text
from svcdns.wire.errors import FormError

_FLAGS: Final = ((AA, "aa"), (TC, "tc"), (RA, "ra"), (AD, "ad"))


class Kind(StrEnum):
    """A kind of difference. The most serious kind is first."""

    NO_REPLY = "no-reply"
    MALFORMED = "malformed"
    RCODE = "rcode"
    ANSWER = "answer"
    AUTHORITY = "authority"
    ADDITIONAL = "additional"
    FLAGS = "flags"
    TTL = "ttl"
    EDNS = "edns"
    REFERENCE = "reference"


MEANINGS: Final = {
    Kind.NO_REPLY: "the candidate did not answer, and the reference did",
    Kind.MALFORMED: "the candidate's reply cannot be parsed",
    Kind.RCODE: "the response code differs",
    Kind.ANSWER: "the records of the answer section differ",
    Kind.AUTHORITY: "the records of the authority section differ",
    Kind.ADDITIONAL: "the records of the additional section differ",
    Kind.FLAGS: "one of the flags AA, TC, RA and AD differs",
    Kind.TTL: "the same records have other TTLs",
    Kind.EDNS: "one reply has an OPT record, and the other has none",
    Kind.REFERENCE: "the reference did not answer, or its reply cannot be parsed",
}
SERIOUS: Final = frozenset({Kind.NO_REPLY, Kind.MALFORMED, Kind.RCODE, Kind.ANSWER})
"""The kinds that a client can notice. The others are reported, and are no failure."""


def differences(reference: Received, candidate: Received) -> dict[Kind, str]:
    """Returns each kind of difference, with a text about both replies. The order of records is ignored."""
    if reference.octets is None:
        return {} if candidate.octets is None else {Kind.REFERENCE: "no reply"}
    if candidate.octets is None:
        return {Kind.NO_REPLY: "no reply"}
    if reference.octets == candidate.octets:
        return {}
    try:
        first = read_reply(b"\0\0" + reference.octets)
    except FormError as error:
        return {Kind.REFERENCE: str(error)}
    try:
        second = read_reply(b"\0\0" + candidate.octets)
    except FormError as error:
        return {Kind.MALFORMED: str(error)}
    return dict(_parsed(first, second))


def _parsed(first: Reply, second: Reply) -> Iterator[tuple[Kind, str]]:
    if first.rcode != second.rcode:
        yield Kind.RCODE, f"{rcode_text(first.rcode)} | {rcode_text(second.rcode)}"
        return
    same = True
    for kind, before, after in (
        (Kind.ANSWER, first.answer, second.answer),
        (Kind.AUTHORITY, first.authority, second.authority),
        (Kind.ADDITIONAL, first.additional, second.additional),
    ):
        if _records(before) != _records(after):
            same = False
            yield kind, f"{_shown(before)} | {_shown(after)}"
    flags = [(name, first.has(bit), second.has(bit)) for bit, name in _FLAGS if first.has(bit) != second.has(bit)]
    if flags:
        yield Kind.FLAGS, ", ".join(f"{name} {int(one)} | {int(other)}" for name, one, other in flags)
    if same:
        ttls = [_ttls(reply) for reply in (first, second)]
        if ttls[0] != ttls[1]:
            yield Kind.TTL, f"{' '.join(map(str, ttls[0]))} | {' '.join(map(str, ttls[1]))}"
    if (first.opt is None) != (second.opt is None):
        yield Kind.EDNS, f"{'without' if first.opt is None else 'with'} | {'without' if second.opt is None else 'with'}"


def _records(section: tuple[Line, ...]) -> list[tuple[str, int, str]]:
    return sorted((line.owner.lower(), line.rtype, _data(line)) for line in section)


def _data(line: Line) -> str:
    """Returns the RDATA in lower case. The serial of an SOA record is left out."""
    if line.rtype == Type.SOA:
        words = line.data.lower().split()
        return " ".join((*words[:2], *words[3:]))
    return line.data if line.rtype == Type.TXT else line.data.lower()


def _ttls(reply: Reply) -> list[int]:
    return [
        line.ttl for line in sorted((*reply.answer, *reply.authority), key=lambda one: (one.rtype, one.data.lower()))
    ]


def _shown(section: tuple[Line, ...]) -> str:
    return "; ".join(sorted(str(line) for line in section)) or "(none)"
