"""Zones of DNS providers: how the Corefile names them, and the data that the control process sends for each zone.

A hosted zone is a zone at a provider, such as Amazon Route 53. `zones.hosted_zone_refresh` fetches its records, and
`zones.hosted_zone_plugin` answers queries from it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import msgspec

from svcdns.corefile.blocks import Position
from svcdns.errors import SvcdnsError


class ProviderError(SvcdnsError):
    """Raised if a provider cannot be used, or refuses a request. The text has no credentials."""


@dataclass(frozen=True, slots=True)
class HostedZone:
    """The name of a zone, absolute and in lower case, and the text that identifies the zone at its provider."""

    zone: str
    ident: str


@dataclass(frozen=True, slots=True)
class ZoneSource:
    """Hosted zones of one account. A subclass adds the credentials.

    `refresh` is the time in seconds between two fetches.
    """

    hosted: tuple[HostedZone, ...]
    refresh: float = 60.0

    @property
    def account(self) -> tuple[str, ...]:
        """Returns the texts that tell accounts and endpoints apart. None of them is a password."""
        return ()

    def key(self, hosted: HostedZone) -> str:
        """Returns the key of a zone in the plugin's data. The key does not show the account."""
        digest = hashlib.sha256("\0".join(self.account).encode()).hexdigest()[:16]
        return f"{hosted.zone} {hosted.ident} {digest}"


@dataclass(frozen=True, slots=True)
class ZoneGroup:
    """The zones of one directive. Queries for names in the zones `fallthrough` go on if no zone has an answer."""

    source: ZoneSource
    fallthrough: tuple[str, ...]
    position: Position = field(compare=False)


@dataclass(frozen=True, slots=True)
class Options:
    """The directives of a server block, in the order in which they get a query. `warnings` are log lines."""

    groups: tuple[ZoneGroup, ...]
    warnings: tuple[str, ...] = ()


class RefreshState(msgspec.Struct, frozen=True, array_like=True):
    """The number of failed fetches of a zone since the start, and the Unix time of the last successful fetch."""

    failed: int = 0
    fetched: int = 0


_state = msgspec.msgpack.Decoder(RefreshState)


def state_key(key: str) -> str:
    """Returns the key of the state of the zone whose content has the key `key`."""
    return f"state {key}"


def encode_state(state: RefreshState) -> bytes:
    """Encodes the state of a zone."""
    return msgspec.msgpack.encode(state)


def decode_state(payload: bytes) -> RefreshState:
    """Decodes the state of a zone."""
    return _state.decode(payload)
