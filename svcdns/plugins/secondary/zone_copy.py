"""The content of one zone in the worker that transfers it. Each version is published to all workers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Final

from svcdns.plugins.secondary.catalog import read_catalog
from svcdns.plugins.secondary.state_file import StateFile
from svcdns.process.blocking_io import in_thread
from svcdns.upstream.query import ExchangeError
from svcdns.wire.record import Record
from svcdns.wire.zone_differences import ZoneTransfer, serial_of
from svcdns.zones.content import decode, encode, portions
from svcdns.zones.differences import applied
from svcdns.zones.history import encode_version

MAX_PAYLOAD: Final = 255 << 20
"""The most octets of an encoded zone: it is sent to the workers in one frame."""


class TransferredZone:
    """The content of one zone; see `refresher.ZoneCopy`."""

    def __init__(
        self,
        apex: bytes,
        payload: Callable[[], bytes],
        soa: Callable[[], Record | None],
        publish: Callable[[bytes], None],
        state: StateFile | None,
        *,
        is_catalog: bool,
        has_history: bool,
    ) -> None:
        """`payload` returns the present content, and is empty without content. `soa` returns its SOA record, or None.

        `publish` is called with each version. With `has_history`, the content has the differences between versions.
        """
        self._apex, self._payload, self._soa, self._publish, self._state = apex, payload, soa, publish, state
        self._is_catalog, self._has_history = is_catalog, has_history

    @property
    def soa(self) -> Record | None:
        """Returns the SOA record of the present version; None without content."""
        return self._soa()

    async def age(self) -> float:
        """Returns the seconds since a primary server confirmed the present content; 0 if that is unknown."""
        soa = self._soa()
        return await self._state.age(serial_of(soa)) if soa is not None and self._state is not None else 0.0

    async def take(self, transfer: ZoneTransfer) -> None:
        """Publishes the version of a transfer. Raises CatalogError, DifferenceError and ExchangeError."""
        payload = await in_thread(self._encoded, self._payload(), transfer)
        self._publish(payload)
        if self._state is not None:
            self._state.save(payload, self._soa() or transfer.soa)

    def _encoded(self, previous: bytes, transfer: ZoneTransfer) -> bytes:
        soa, records = transfer.soa, transfer.records
        if records is None:
            old = decode(previous)
            soa, records = applied(old.soa, chain.from_iterable(portions(old)), transfer.differences)
        if self._is_catalog:
            read_catalog(self._apex, records)
        payload = encode_version(previous, soa, records, 0) if self._has_history else encode(soa, records, 0)
        if len(payload) > MAX_PAYLOAD:
            raise ExchangeError(f"the zone has more than {MAX_PAYLOAD} octets")
        return payload

    def checked(self) -> None:
        """Notes in the state folder that a primary server has confirmed the present version."""
        soa = self._soa()
        if self._state is not None and soa is not None:
            self._state.confirm(self._payload(), soa)

    def expire(self) -> None:
        """Removes the content from all workers."""
        self._publish(b"")

    def stop(self) -> None:
        """Writes nothing more to the state folder."""
        if self._state is not None:
            self._state.stop()

    def remove(self) -> None:
        """Removes the content from all workers, and from the state folder."""
        self._publish(b"")
        if self._state is not None:
            self._state.remove()
