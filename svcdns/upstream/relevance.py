"""Removes the records of an upstream's reply that do not belong to its query (RFC 5452 §6, RFC 2181 §5.4.1).

Rules for the records that stay:

1. Answer section: the owner is the query name, or a name in the chain of CNAME and DNAME records that begins there.
2. An NXDOMAIN reply has only this chain in the answer section (RFC 6604 §3).
3. Authority section: NS, SOA and DS records of a zone at or above the chain's last name, and DNSSEC proofs of the
   chain's zones.
4. Additional section: the owner is the target of a record that stays, such as the server of an MX record.
5. The class is that of the query. A signature (RRSIG) stays if its records stay.
6. A chain has at most MAX_ALIASES aliases, and a reply at most MAX_PROOFS proofs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final

from svcdns.wire import names
from svcdns.wire.codes import Class, Rcode, Type
from svcdns.wire.message import Message
from svcdns.wire.record import Record
from svcdns.wire.signatures import covered_type, signer
from svcdns.wire.simple_reply import MAX_ALIASES
from svcdns.wire.targets import target

MAX_STEPS: Final = 8
"""The most records in the additional section that lead from one to the next, such as SRV, CNAME, A."""
_ALIASES: Final = frozenset({Type.CNAME, Type.DNAME})
_OF_ZONE: Final = frozenset({Type.NS, Type.SOA, Type.DS})
_PROOFS: Final = frozenset({Type.NSEC, Type.NSEC3})
_TRANSFERS: Final = frozenset({Type.AXFR, Type.IXFR})
MAX_PROOFS: Final = 64
"""The most records that prove a denial, with their signatures. A denial needs three proofs at most (RFC 5155 §7.2)."""


class Stripped(StrEnum):
    """The reason why a record was removed from a reply. The values are labels of a metric."""

    OWNER = "owner"
    """It is in the answer section, and its owner is not on the chain."""
    CLASS = "class"
    DENIAL = "denial"
    """It is in the answer section of a reply NXDOMAIN, and is no alias."""
    AUTHORITY = "authority"
    ADDITIONAL = "additional"


def remove_unrelated_records(message: Message, key: bytes) -> Counter[Stripped]:
    """Removes the records that do not belong to the query. Returns the number of removed records for each reason.

    `key` is the query name in lower case.
    """
    stripped: Counter[Stripped] = Counter()
    if message.rclass != Class.ANY:
        _remove_other_classes(message, stripped)
    if message.rtype in _TRANSFERS:
        answer = [record for record in message.answer if names.is_within(record.owner.lower(), key)]
        message.answer = _counted(message.answer, answer, Stripped.OWNER, stripped)
        return stripped
    chain = alias_chain(message.answer, key)
    if message.answer:
        _strip_answer(message, chain, stripped)
    if message.authority:
        kept = _authority(message, chain)
        message.authority = _counted(message.authority, kept, Stripped.AUTHORITY, stripped)
    if message.additional:
        kept = _additional(message)
        message.additional = _counted(message.additional, kept, Stripped.ADDITIONAL, stripped)
    return stripped


def alias_chain(answer: Iterable[Record], key: bytes) -> list[bytes]:
    """Returns the names of an alias chain: `key`, then the targets of its CNAME and DNAME records.

    `key` is in lower case. If a name has several CNAME records, the first one is used. The chain ends after MAX_ALIASES
    targets.
    """
    aliases: dict[bytes, bytes] = {}
    trees: dict[bytes, bytes] = {}
    for record in answer:
        if record.rtype == Type.CNAME:
            aliases.setdefault(record.owner.lower(), record.rdata.lower())
        elif record.rtype == Type.DNAME:
            trees.setdefault(record.owner.lower(), record.rdata.lower())
    chain, known = [key], {key}
    if not aliases and not trees:
        return chain
    while len(chain) <= MAX_ALIASES:
        name = aliases.get(chain[-1]) or _moved(chain[-1], trees)
        if name is None or name in known:
            break
        known.add(name)
        chain.append(name)
    return chain


def _moved(name: bytes, trees: dict[bytes, bytes]) -> bytes | None:
    """Returns the name to which a DNAME record redirects `name`, or None if there is no such record (RFC 6672 §2.2)."""
    if trees:
        for zone in names.suffixes(name)[1:]:
            if zone in trees:
                moved = name[: len(name) - len(zone)] + trees[zone]
                return moved if len(moved) <= names.MAX_NAME else None
    return None


def _remove_other_classes(message: Message, stripped: Counter[Stripped]) -> None:
    rclass = message.rclass
    for section in ("answer", "authority", "additional"):
        records: tuple[Record, ...] = getattr(message, section)
        if records:
            kept = [record for record in records if record.rclass == rclass]
            setattr(message, section, _counted(records, kept, Stripped.CLASS, stripped))


def _strip_answer(message: Message, chain: list[bytes], stripped: Counter[Stripped]) -> None:
    owners, above = frozenset(chain), set[bytes]()
    if any(covered_type(record) == Type.DNAME for record in message.answer):
        above = names.ancestors(chain)
    kept = [
        record
        for record in message.answer
        if (owner := record.owner.lower()) in owners or (owner in above and covered_type(record) == Type.DNAME)
    ]
    message.answer = _counted(message.answer, kept, Stripped.OWNER, stripped)
    if message.rcode == Rcode.NXDOMAIN:
        kept = [record for record in message.answer if covered_type(record) in _ALIASES]
        message.answer = _counted(message.answer, kept, Stripped.DENIAL, stripped)


def _authority(message: Message, chain: list[bytes]) -> list[Record]:
    last = chain[-1]
    above_last = names.ancestors([last]) | {last}
    of_zone: list[Record] = []
    proofs: list[Record] = []
    for record in message.authority:
        rtype = covered_type(record)
        if rtype in _OF_ZONE:
            if record.owner.lower() in above_last:
                of_zone.append(record)
        elif rtype in _PROOFS and len(proofs) < MAX_PROOFS:
            proofs.append(record)
    zones = {record.owner.lower() for record in of_zone if record.rtype == Type.SOA}
    zones.update(_signing_zones((*message.answer, *of_zone, *proofs), chain))
    kept = {id(record) for record in of_zone}
    kept.update(id(record) for record in proofs if any(zone in zones for zone in names.suffixes(record.owner.lower())))
    return [record for record in message.authority if id(record) in kept]


def _signing_zones(records: Iterable[Record], chain: list[bytes]) -> Iterator[bytes]:
    """Yields the zones at or above names of the chain that have a signature in the records.

    A signature is ignored if its owner is not in the signer's zone (RFC 4035 §5.3.1).
    """
    above: set[bytes] | None = None
    for record in records:
        zone = signer(record)
        if zone is not None and names.is_within(record.owner.lower(), zone):
            if above is None:
                above = names.ancestors(chain).union(chain)
            if zone in above:
                yield zone


def _additional(message: Message) -> list[Record]:
    targets = {target(record) for record in (*message.answer, *message.authority)}
    leading = [(record.owner.lower(), found) for record in message.additional if (found := target(record)) is not None]
    for _ in range(MAX_STEPS):
        waiting = [(owner, found) for owner, found in leading if owner not in targets]
        if len(waiting) == len(leading):
            break
        targets.update([found for owner, found in leading if owner in targets])  # a list: one step for each record
        leading = waiting
    return [record for record in message.additional if record.owner.lower() in targets]


def _counted(
    records: tuple[Record, ...], kept: list[Record], reason: Stripped, stripped: Counter[Stripped]
) -> tuple[Record, ...]:
    if len(kept) == len(records):
        return records
    stripped[reason] += len(records) - len(kept)
    return tuple(kept)
