"""Answers of `secondary` from transferred zones (docs/behaviour/plugins.md#secondary)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from svcdns.plugin_api.reply import Reply
from svcdns.plugin_api.zone_transfer import UnavailableError
from svcdns.plugins.secondary import Secondary, handler, refresher
from svcdns.wire import names
from svcdns.wire.codes import Rcode, Type
from svcdns.zones.content import encode
from tests.support import world
from tests.support.primary import message, primary, zone_script

APEX = names.from_text("example.org.")
NEXT_PLUGIN = Reply(rcode=Rcode.NOTIMP)


def records(serial: int = 1, address: str = "10.0.0.1") -> tuple[Any, ...]:
    """Returns the records of a version of the zone."""
    return world.records(
        f"example.org. 60 IN SOA ns.example.org. root.example.org. {serial} 1000 1000 1000 5",
        f"www.example.org. 60 IN A {address}",
    )


class Worker:
    """The plugin, with the data that it publishes. `notified` has the zones of NOTIFY messages that it sends."""

    def __init__(self, body: str = "", primaries: str = "192.0.2.1", kept: bytes = b"", **fields: Any) -> None:
        """The zone has no content yet, or the content `kept` from the state folder."""
        self.data: dict[str, bytes] = {"kept example.org.": kept} if kept else {}
        self.calls: dict[str, Callable[[bytes], None]] = {}
        self.invalidated: list[Any] = []
        self.notified: list[bytes] = []
        self.arrived = asyncio.Event()
        text = f"secondary example.org {{\n transfer from {primaries}\n{body}\n}}"
        transfer = SimpleNamespace(notify=self.notified.append)
        self.plugin = Secondary(
            world.options("secondary", text),
            world.environment(
                data=lambda _plugin, key: self.data.get(key),
                on_data=lambda _plugin, key, call: self.calls.update({key: call}),
                publish=self.take,
                invalidate=self.invalidated.extend,
                peers=lambda name: (transfer,) if name == "transfer" else (None,),
                **fields,
            ),
        )

    def take(self, _plugin: str, key: str, payload: bytes) -> None:
        """Takes published data, as each worker does."""
        self.data[key] = payload
        if not key.startswith("kept "):
            self.calls[key](payload)
        self.arrived.set()

    def ask(self, name: str) -> list[str]:
        """Returns the rcode and the answer section."""
        reply = world.now(world.handled(self.plugin, world.query(name), world.following(NEXT_PLUGIN)))
        return world.summary(reply)[: 1 + len(reply.answer)]


def test_answers_before_and_after_a_transfer() -> None:
    """Without content and after it has expired, the zone is SERVFAIL. A new version drops stored replies."""
    worker = Worker()
    assert worker.ask("www.example.org.") == ["SERVFAIL"]
    with pytest.raises(UnavailableError, match=r"plugin/secondary: zone example\.org\. is not loaded"):
        worker.plugin.transfer(APEX, 0)
    content = encode(records()[0], records(), 0)
    worker.take("", "zone example.org.", content)
    assert worker.ask("www.example.org.") == ["NOERROR", "www.example.org. 60 IN A 10.0.0.1"]
    assert worker.invalidated == [("secondary", "example.org.")]
    worker.take("", "zone example.org.", content)
    assert len(worker.invalidated) == 1, "the same version again"
    assert worker.plugin.transfer(APEX, 0) is not None
    assert worker.ask("www.example.net.") == ["NOTIMP"]
    worker.take("", "zone example.org.", b"")
    assert worker.ask("www.example.org.") == ["SERVFAIL"]
    assert worker.plugin.own_zones == (APEX,)


@pytest.mark.parametrize(
    ("body", "expected"), [("", "NXDOMAIN"), ("fallthrough", "NOTIMP"), ("fallthrough a.org", "NXDOMAIN")]
)
def test_fallthrough(body: str, expected: str) -> None:
    """Names that do not exist go to the next plugin if `fallthrough` covers them."""
    worker = Worker(body)
    worker.take("", "zone example.org.", encode(records()[0], records(), 0))
    assert worker.ask("x.example.org.") == [expected]


async def test_one_worker_transfers_the_zone_for_all() -> None:
    """The zone is transferred at the start and after a NOTIFY, and published. Other secondaries are notified."""
    present = [records()]
    async with primary(zone_script("example.org.", lambda: present[0])) as (host, port):
        worker = Worker(primaries=f"{host}:{port}")
        worker.plugin.start()
        await asyncio.wait_for(worker.arrived.wait(), 10)
        assert worker.ask("www.example.org.") == ["NOERROR", "www.example.org. 60 IN A 10.0.0.1"]
        assert not worker.plugin.notified(APEX, "192.0.2.9"), "no primary server"
        present[0] = records(2, "10.0.0.2")
        while worker.ask("www.example.org.")[-1] != "www.example.org. 60 IN A 10.0.0.2":
            worker.arrived.clear()
            assert worker.plugin.notified(APEX, host)
            await asyncio.wait_for(worker.arrived.wait(), 10)
            await asyncio.sleep(0.01)
        worker.plugin.stop()
    assert worker.notified == [APEX, APEX]


def test_other_workers_transfer_nothing() -> None:
    """A worker that is not the first one starts no tasks, but passes a NOTIFY on."""
    worker = Worker(first=False)
    worker.take("", "zone example.org.", encode(records()[0], records(), 0))
    worker.plugin.start()
    assert worker.plugin.notified(APEX, "192.0.2.1")
    assert set(worker.data) == {"zone example.org.", "notify example.org."}


async def test_an_error_that_nobody_has_foreseen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The error is logged, and the transfers begin anew."""
    monkeypatch.setattr(handler, "LAST_RETRY", 0.0)
    failures = iter((RuntimeError("odd"),))

    async def run(_refresher: object, _age: float = 0.0) -> None:
        for error in failures:
            raise error
        began.set()
        await asyncio.Event().wait()

    began = asyncio.Event()
    monkeypatch.setattr(refresher.ZoneRefresher, "run", run)
    worker = Worker()
    worker.plugin.start()
    await asyncio.wait_for(began.wait(), 10)
    assert caplog.messages == ["the transfers of a zone failed zone=example.org."]
    assert "RuntimeError: odd" in caplog.text
    worker.plugin.stop()


async def test_a_newer_version_is_transferred_by_its_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    """The differences are applied to the present content. If they do not fit, the whole zone is transferred."""
    monkeypatch.setattr(refresher, "NOTIFY_PAUSE", 0.0)
    old, new = records(1), records(2, "10.0.0.2")
    deleted = [old[1]]
    asked: list[int] = []

    def script(ident: int, rtype: int) -> list[bytes]:
        asked.append(rtype)
        if rtype == Type.IXFR:
            return [message(ident, (new[0], old[0], *deleted, *new, new[0]), (APEX, rtype))]
        return list(zone_script("example.org.", lambda: new)(ident, rtype))

    async with primary(script) as (host, port):
        for fits in (True, False):
            worker = Worker(primaries=f"{host}:{port}")
            worker.take("", "zone example.org.", encode(old[0], old, 0))
            worker.arrived.clear()
            worker.plugin.start()
            await asyncio.wait_for(worker.arrived.wait(), 10)
            assert worker.ask("www.example.org.") == ["NOERROR", "www.example.org. 60 IN A 10.0.0.2"]
            worker.plugin.stop()
            assert asked == [Type.SOA, Type.IXFR] if fits else [Type.SOA, Type.IXFR, Type.AXFR]
            deleted.append(world.records("x.example.org. 60 IN A 10.0.0.1")[0])
            asked.clear()


async def test_a_worker_that_lacks_a_zone_gets_it_from_the_first_worker() -> None:
    """A worker may start after control has lost the published zones."""
    late, first = Worker(first=False), Worker()
    late.plugin.start()
    assert set(late.data) == {"wanted example.org."}
    first.take("", "wanted example.org.", b"1")
    assert set(first.data) == {"wanted example.org."}, "the first worker has no content either"
    content = encode(records()[0], records(), 0)
    first.take("", "zone example.org.", content)
    first.data.clear()
    first.take("", "wanted example.org.", b"2")
    assert first.data["zone example.org."] == content
