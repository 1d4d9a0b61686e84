"""Reads the zones that the directives of hosted zones name in the Corefile."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from svcdns.corefile.blocks import Token
from svcdns.corefile.errors import CorefileError, ZoneError
from svcdns.corefile.zones import normalise_name
from svcdns.zones.hosted_zones import HostedZone


def hosted_zones(words: Iterable[Token], split: Callable[[str], tuple[str, str] | None]) -> tuple[HostedZone, ...]:
    """Returns the hosted zones that the arguments of a directive name. Raises CorefileError.

    `split` returns the name of the zone and its identifier, or None for an invalid word.
    """
    found: dict[str, HostedZone] = {}
    for word in words:
        if word.text in found:
            raise CorefileError(word.position, f'conflict zone "{word.text}"')
        parts = split(word.text)
        if parts is None:
            raise _invalid(word)
        found[word.text] = hosted_zone(word, *parts)
    return tuple(dict.fromkeys(found.values()))


def hosted_zone(word: Token, name: str, ident: str) -> HostedZone:
    """Returns the hosted zone that a word of the Corefile names. Raises CorefileError if `name` is no domain name."""
    try:
        return HostedZone(normalise_name(name)[0], ident)
    except ZoneError as error:
        raise _invalid(word) from error


def _invalid(word: Token) -> CorefileError:
    return CorefileError(word.position, f'invalid zone "{word.text}"')
