"""How *sign* keeps a zone signed in the control process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

from svcdns.plugins import sign
from svcdns.plugins.sign import program
from svcdns.plugins.sign.program import Job, Result
from svcdns.plugins.sign.schedule import CHECK, DAY
from svcdns.plugins.sign.state import State, decode
from svcdns.plugins.sign.watcher import RETRY, Watcher, run
from tests.support import world

KEY = Path(__file__).parents[2] / "dnssec" / "keys" / "Kexample.org.+013+41819"
ZONE = "$TTL 60\n@ SOA ns root 1 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n"


class World:
    """A watcher of one zone, its files, a clock, and what the watcher publishes."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "zone"
        self.file.write_text(ZONE)
        self.now = self.file.stat().st_mtime
        self.jobs: list[Job] = []
        self.result: Result | None = None
        self.states: list[State] = []
        self.published = asyncio.Event()
        text = f"sign {self.file} example.org {{\n key file {KEY}\n directory {folder}\n}}"
        self.options = world.options("sign", text)
        self.zone = self.options.zones[0]
        self.log = logging.getLogger("svcdns.plugin.sign.test")
        self.watcher = Watcher(self.zone, self.publish, self.sign, lambda: self.now, self.log)

    async def publish(self, data: Mapping[str, bytes]) -> None:
        self.states += map(decode, data.values())
        self.published.set()

    def sign(self, job: Job) -> Result:
        self.jobs.append(job)
        return self.result or program.sign(job)


@pytest.fixture
def signed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> World:
    caplog.set_level(logging.INFO)
    return World(tmp_path)


async def test_signs_at_a_start_and_then_when_signatures_are_old(
    signed: World, caplog: pytest.LogCaptureFixture
) -> None:
    assert await signed.watcher.check(is_asked=True) == CHECK
    (job,) = signed.jobs
    assert job.serial == int(signed.now)
    assert 'Signing "example.org." because open ' in caplog.text
    assert 'Successfully signed zone "example.org." in ' in caplog.text
    assert f'with key tags "41819" and {job.serial} SOA serial, elapsed ' in caplog.text
    caplog.clear()
    assert await signed.watcher.check() == CHECK
    assert (len(signed.jobs), caplog.text) == (1, "")
    signed.now += 6 * DAY
    await signed.watcher.check()
    assert len(signed.jobs) == 2
    assert "was more than: 144h0m0s ago" in caplog.text
    assert signed.states[0] == signed.states[1] == State(failed=False, expiration=job.expiration)
    assert signed.states[2].expiration == job.expiration + 6 * DAY


async def test_valid_signatures_are_logged_at_a_start(signed: World, caplog: pytest.LogCaptureFixture) -> None:
    await signed.watcher.check()
    caplog.clear()
    await signed.watcher.check(is_asked=True)
    path = signed.zone.signed_file
    assert f'Skipping signing zone "example.org." in "{path}": signatures are valid' in caplog.text


async def test_a_fault_is_logged_once_and_the_zone_is_checked_again(
    signed: World, caplog: pytest.LogCaptureFixture
) -> None:
    signed.result = Result("zone:1:1: it is wrong")
    assert await signed.watcher.check() == RETRY
    assert await signed.watcher.check() == RETRY
    errors = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    (error,) = errors
    assert error.startswith('Error signing "example.org." with key tags "41819": zone:1:1: it is wrong, next: ')
    assert signed.states == [State(failed=True, expiration=0)] * 2
    signed.result = None
    assert await signed.watcher.check() == CHECK
    assert not signed.states[-1].failed


async def test_a_fault_leaves_the_signed_file_with_its_expiration(signed: World) -> None:
    await signed.watcher.check()
    signed.now += 8 * DAY
    signed.result = Result("no")
    await signed.watcher.check()
    assert signed.states[1] == State(failed=True, expiration=signed.states[0].expiration)


async def test_keys_that_have_gone_are_a_fault(signed: World, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (gone,) = world.options("sign", f"sign {signed.file} example.org {{\n key file {tmp_path}/none\n}}").zones
    watcher = Watcher(gone, signed.publish, signed.sign, lambda: signed.now, signed.log)
    assert await watcher.check() == RETRY
    assert f"open {tmp_path}/none.key: no such file or directory" in caplog.text
    assert (signed.jobs, signed.states) == ([], [State(failed=True, expiration=0)])


async def test_warnings_about_the_zone_file_are_logged(signed: World, caplog: pytest.LogCaptureFixture) -> None:
    signed.result = Result("", tuple(f"warning {number}" for number in range(12)))
    await signed.watcher.check()
    lines = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert lines == [
        *(f'a warning about the zone file path={signed.file} warning="warning {number}"' for number in range(10)),
        f"more warnings about the zone file path={signed.file} warnings=2",
    ]


async def test_a_reload_checks_the_zone(signed: World) -> None:
    """`gather` is called in a thread at a start and at a reload."""
    task = asyncio.create_task(signed.watcher.run())
    try:
        for count in (1, 2):
            await asyncio.wait_for(signed.published.wait(), 10)
            signed.published.clear()
            assert len(signed.jobs) == count
            Path(signed.zone.signed_file).unlink()
            await asyncio.to_thread(sign.gather, signed.options, {})
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_workers_get_no_key(signed: World) -> None:
    """Neither the job of the process that signs nor the published data have a part of the private key."""
    await signed.watcher.check()
    secret = next(
        one.split()[1] for one in Path(f"{KEY}.private").read_text().splitlines() if one.startswith("PrivateKey:")
    )
    assert secret not in repr(signed.jobs) + repr(signed.states) + repr(sign.gather(signed.options, {}))
    assert [type(one) for one in signed.states] == [State]


async def test_the_source_of_the_plugin_is_its_zone(signed: World) -> None:
    assert sign.sources(signed.options) == (signed.zone,)


@pytest.mark.slow
def test_another_process_signs(signed: World) -> None:
    path = signed.zone.signed_file
    assert run(Job(str(signed.file), "example.org.", path, (str(KEY),), 5, 1, 2)) == Result("")
    assert "RRSIG" in Path(path).read_text()
    assert run(Job(str(signed.file), "example.org.", path, ("/none",), 5, 1, 2)).error.startswith("open /none.key: ")
