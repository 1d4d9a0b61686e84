"""Fetching hosted zones in the control process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest

from svcdns.corefile.errors import CorefileError
from svcdns.wire.zone_words import ZoneFileError
from svcdns.zones import hosted_zone_refresh
from svcdns.zones.content import decode
from svcdns.zones.hosted_zone_refresh import LONGEST_WAIT, Redactor, wait_time, watch
from svcdns.zones.hosted_zones import HostedZone, Options, ZoneSource, decode_state, state_key
from tests.support.hosted_zones import PUBLIC, SOA, Cloud, group

GROUP = group("example.org.:Z1", "example.net.:Z2")
KEYS = [GROUP.source.key(hosted) for hosted in GROUP.source.hosted]


def gathered(cloud: Cloud, *groups: Any, **fields: Any) -> dict[str, bytes]:
    return hosted_zone_refresh.gather(cloud.provider(**fields), Options(groups or (GROUP,)))


def test_a_start_fetches_all_zones() -> None:
    data = gathered(Cloud({"Z1": PUBLIC, "Z2": SOA}))
    assert {key: decode(data[key]).serial for key in KEYS} == dict.fromkeys(KEYS, 1)
    assert decode_state(data[state_key(KEYS[0])]).fetched > 1_700_000_000


@pytest.mark.parametrize(
    ("cloud", "expected"),
    [
        pytest.param(Cloud({}, unreachable="no credentials"), "not connected: no credentials", id="no client"),
        pytest.param(Cloud({"Z1": PUBLIC}), "not checked: no zone Z2", id="no such zone"),
        pytest.param(
            Cloud({"Z1": PUBLIC}, failing={"Z2": "HTTP 500"}),
            "not fetched: errors updating zones: [HTTP 500]",
            id="a zone that cannot be fetched",
        ),
    ],
)
def test_what_fails_at_a_start_is_an_error(cloud: Cloud, expected: str) -> None:
    with pytest.raises(CorefileError) as raised:
        gathered(cloud)
    assert raised.value.message == f"plugin/cloud: {expected}"
    assert raised.value.position == GROUP.position


def test_a_missing_package_is_an_error_that_names_the_extra() -> None:
    with pytest.raises(CorefileError) as raised:
        gathered(Cloud({}), package="no_such_package.client")
    assert raised.value.message == (
        "plugin/cloud: the Python package 'no_such_package.client' is missing: "
        "install svcdns[cloud], or build the image with EXTRAS=cloud"
    )


def test_warnings_are_logged_and_bounded(caplog: pytest.LogCaptureFixture) -> None:
    cloud = Cloud({"Z1": "www 60 IN A 192.0.2.1\n"}, warnings=[f"record {number}" for number in range(12)])
    data = gathered(cloud, group("example.org.:Z1"))
    assert data[KEYS[0]] == b""
    assert len(caplog.messages) == 11
    assert caplog.messages[-1] == "more warnings about the zone zone=example.org. warnings=3"


def test_an_unexpected_exception_of_a_client_is_raised() -> None:
    cloud = Cloud({"Z1": PUBLIC, "Z2": "www 60 IN A not-an-address\n"})
    with pytest.raises(ZoneFileError, match="A data is wrong"):
        gathered(cloud)


class Watched:
    """A watch whose pauses the test ends, with what it has published and the pauses in seconds."""

    def __init__(self, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
        self.published: asyncio.Queue[Mapping[str, bytes]] = asyncio.Queue()
        self.failures: list[int] = []
        monkeypatch.setattr(hosted_zone_refresh, "wait_time", self._wait_time)
        self.task = asyncio.create_task(watch(cloud.provider(), GROUP.source, self.published.put))

    def _wait_time(self, refresh: float, failures: int) -> float:
        assert refresh == 60.0
        self.failures.append(failures)
        return 0.0

    async def next(self) -> Mapping[str, bytes]:
        return await asyncio.wait_for(self.published.get(), 10)

    async def until(self, is_right: Callable[[Mapping[str, bytes]], bool]) -> Mapping[str, bytes]:
        """Returns the next published data for which `is_right` is true."""
        while not is_right(found := await self.next()):
            pass
        return found

    async def stop(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


async def test_a_failed_fetch_keeps_the_zone_and_is_logged_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cloud = Cloud({"Z1": PUBLIC, "Z2": SOA}, failing={"Z1": "HTTP 500"})
    watched = Watched(cloud, monkeypatch)
    data = await watched.until(lambda found: decode_state(found[state_key(KEYS[0])]).failed >= 2)
    assert KEYS[0] not in data
    assert decode(data[KEYS[1]]).serial == 1
    assert decode_state(data[state_key(KEYS[0])]).fetched > 1_700_000_000
    cloud.failing.clear()
    data = await watched.until(lambda found: KEYS[0] in found)
    assert decode(data[KEYS[0]]).serial == 1
    await watched.next()
    await watched.stop()
    text = "Failed to update zones [example.org. example.net.]: errors updating zones: [HTTP 500]"
    assert (caplog.records[0].levelno, caplog.messages[0]) == (logging.ERROR, text)
    assert watched.failures[:3] == [0, 1, 2]
    assert watched.failures[-1] == 0


async def test_a_client_that_cannot_be_made_is_a_failure_of_each_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Cloud({"Z1": PUBLIC, "Z2": SOA}, unreachable="no credentials")
    watched = Watched(cloud, monkeypatch)
    data = await watched.next()
    assert [decode_state(data[state_key(key)]).failed for key in KEYS] == [1, 1]
    cloud.unreachable = ""
    await watched.until(lambda found: KEYS[0] in found)
    await watched.stop()


@pytest.mark.parametrize(
    ("refresh", "failures", "expected"),
    [(60, 0, 60), (60, 1, 120), (60, 9, LONGEST_WAIT), (3600, 3, 3600), (1, 50, 300)],
)
def test_the_wait_grows_after_failures(refresh: float, failures: int, expected: float) -> None:
    assert expected <= wait_time(refresh, failures) <= expected * 1.1


def test_error_texts_have_no_secrets() -> None:
    redactor = Redactor(["sekret-key", None, "", "sekret-key-and-more", "a"])
    assert redactor.text(ValueError("bad sekret-key-and-more\nand sekret-key")) == "bad ... and ..."
    assert redactor.text(ValueError()) == "ValueError"


def test_the_key_of_a_zone_does_not_show_the_account() -> None:
    class Account(ZoneSource):
        @property
        def account(self) -> tuple[str, ...]:
            return ("AKIA-ONE",)

    hosted = HostedZone("example.org.", "Z1")
    key = Account((hosted,)).key(hosted)
    assert "AKIA" not in key
    assert key != ZoneSource((hosted,)).key(hosted)
