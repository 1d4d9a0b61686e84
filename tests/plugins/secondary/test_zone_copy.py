"""Taking transfers (docs/behaviour/plugins.md#secondary)."""

from __future__ import annotations

import pytest

from svcdns.plugins.secondary import zone_copy
from svcdns.plugins.secondary.catalog import CatalogError
from svcdns.plugins.secondary.zone_copy import TransferredZone
from svcdns.upstream.query import ExchangeError
from svcdns.wire.record import Record
from svcdns.wire.zone_differences import ZoneTransfer
from svcdns.zones.content import decode
from tests.plugins.secondary.test_handler import APEX, records


class Copy(TransferredZone):
    """A zone whose content is `payload`."""

    def __init__(self, *, is_catalog: bool = False, has_history: bool = False) -> None:
        """The zone has no content yet."""
        self.payload = b""
        super().__init__(
            APEX, lambda: self.payload, self.present, self.replace, None, is_catalog=is_catalog, has_history=has_history
        )

    def present(self) -> Record | None:
        """Returns the SOA record of the content."""
        return decode(self.payload).soa if self.payload else None

    def replace(self, payload: bytes) -> None:
        """Takes published content."""
        self.payload = payload


def whole(serial: int) -> ZoneTransfer:
    """Returns a transfer of a version."""
    soa, *others = records(serial, f"10.0.0.{serial}")
    return ZoneTransfer(soa, others, [])


@pytest.mark.parametrize(("has_history", "steps"), [(True, [0, 1, 2]), (False, [0, 0, 0])])
async def test_versions_are_published(*, has_history: bool, steps: list[int]) -> None:
    """With *transfer* in the block, the content has the differences between versions."""
    copy = Copy(has_history=has_history)
    assert copy.soa is None
    assert await copy.age() == 0.0
    for serial, count in zip((1, 2, 3), steps, strict=True):
        await copy.take(whole(serial))
        assert copy.soa == records(serial)[0]
        assert len(decode(copy.payload).history) == count
    copy.checked()
    copy.expire()
    assert copy.soa is None


async def test_versions_that_are_not_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """An invalid catalog, and a zone that is too large for a frame."""
    copy = Copy(is_catalog=True)
    with pytest.raises(CatalogError):
        await copy.take(whole(1))
    monkeypatch.setattr(zone_copy, "MAX_PAYLOAD", 10)
    with pytest.raises(ExchangeError, match="the zone has more than 10 octets"):
        await Copy().take(whole(1))
    assert copy.payload == b""
