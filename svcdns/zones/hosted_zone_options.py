"""Reads the zones that the directives of hosted zones name in the Corefile."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from svcdns.corefile.blocks import Token
from svcdns.corefile.errors import CorefileError, ZoneError
from svcdns.corefile.zones import normalise_name
from svcdns.zones.hosted_zones import HostedZone


def hosted_zones(
    words: Iterable[Token], split: Callable[[str], tuple[str, str] | None], conflict: str = "conflict zone"
) -> tuple[HostedZone, ...]:
    """Returns the hosted zones that the arguments of a directive name. Raises CorefileError.

    `split` returns the name of the zone and its identifier, or None for an invalid word. `conflict` begins the error
    text for a word that is there twice.
    """
    found: dict[str, HostedZone] = {}
    for word in words:
        if word.text in found:
            raise CorefileError(word.position, f'{conflict} "{word.text}"')
        parts = split(word.text)
        try:
            name = normalise_name(parts[0])[0] if parts is not None else ""
        except ZoneError:
            name = ""
        if parts is None or not name:
            raise CorefileError(word.position, f'invalid zone "{word.text}"')
        found[word.text] = HostedZone(name, parts[1])
    return tuple(dict.fromkeys(found.values()))
