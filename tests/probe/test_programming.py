"""The objects that a probe changes, and the time until their new answers."""

from __future__ import annotations

import pytest

from svcdns.probe import programming
from svcdns.probe.errors import ProbeError
from svcdns.probe.latency import Asked
from svcdns.probe.measurements import Measurements
from svcdns.probe.programming import Change, changes
from svcdns.shadow.asking import Received
from svcdns.wire import names
from tests.conformance.model import FakeApi


class Shows:
    """A DNS server that shows the state of the API server from the second query on, or never."""

    def __init__(self, api: FakeApi, *, never: bool = False) -> None:
        self._api, self._never, self.queries = api, never, list[bytes]()

    async def ask(self, query: bytes) -> Received:
        self.queries.append(query)
        if len(self.queries) == 1:
            return Received(None, 0.0)
        octets = b"\x80\0"
        for item in self._api.objects.values():
            target = item.get("spec", {}).get("externalName")
            octets += names.from_text(target) if target else b""
            for one in item.get("endpoints", ()):
                octets += b"\0\4" + bytes(map(int, one["addresses"][0].split(".")))
        return Received(b"\x80\0" if self._never else octets, 0.001)


async def measured(api: FakeApi, server: Shows) -> tuple[Measurements, list[Change]]:
    measurements = Measurements()
    async with changes(api, "ns", "cluster.local.") as found:
        for change in found:
            await change.measure(api, [Asked("it", server)], measurements)  # type: ignore[arg-type]
        assert len(api.objects) == 3
    return measurements, found


async def test_each_change_is_seen() -> None:
    """The objects are deleted at the end."""
    api = FakeApi()
    measurements, found = await measured(api, server := Shows(api))
    assert [measurements.count("it", change.kind) for change in found] == [1, 1]
    assert measurements.failures("it", "service") == 0
    assert api.objects == {}
    assert b"\2ns\3svc\7cluster\5local\0" in server.queries[0]


async def test_a_change_without_a_new_answer_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programming, "LIMIT", 0.0)
    api = FakeApi()
    measurements, _ = await measured(api, Shows(api, never=True))
    assert (measurements.failures("it", "service"), measurements.failures("it", "endpoint")) == (1, 1)
    assert measurements.percentile("it", "service", 0.5) is None


async def test_missing_permissions() -> None:
    """What was created before is deleted."""
    api = FakeApi()
    api.refuse = "endpointslices"
    with pytest.raises(ProbeError, match="403"):
        async with changes(api, "ns", "cluster.local."):
            pytest.fail("no objects")
    assert api.objects == {}
