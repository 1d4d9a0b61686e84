"""The renewal of a certificate, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from svcdns.plugins.tls import gather
from svcdns.plugins.tls.acme.account_key import AccountKey
from svcdns.plugins.tls.acme.data import decode_challenges
from svcdns.plugins.tls.acme.errors import AcmeError
from svcdns.plugins.tls.acme.manager import DELAYS, LEAST_PAUSE, SETTLE, STEP, VARIATION, Manager
from svcdns.plugins.tls.acme.storage import Storage
from svcdns.plugins.tls.options import Acme, Options
from svcdns.plugins.tls.served import ServerTls, decode
from svcdns.tls.material import Material, expiry
from tests.support import world
from tests.support.acme import URL, AcmeDouble, problem
from tests.support.certificates import pair

HOUR = 3600.0


class Done(Exception):
    """Ends the manager."""


class Run:
    """A manager, whose pauses move the clock, until `seconds` have passed."""

    def __init__(self, folder: Path, server: AcmeDouble, **fields: Any) -> None:
        """`fields` are ACME options."""
        self.acme = Acme(("a.example",), ca=f"{URL}/directory", storage=str(folder / "acme"), **fields)
        self.storage, self.server = Storage(self.acme), server
        self.now = self.begun = time.time()
        server.now = lambda: self.now
        self.data: dict[str, bytes] = {}
        self.attempts: list[float] = []
        """The times of all attempts, in seconds after the begin."""
        self.presented: list[Mapping[str, list[str]]] = []
        self.certificates: list[bytes] = []
        self._end = 0.0

    async def publish(self, data: Mapping[str, bytes]) -> None:
        """Takes the data, as control does."""
        self.data |= data
        self.server.records = decode_challenges(self.data[self.acme.challenges_key])
        if not self.presented or self.presented[-1] != self.server.records:
            self.presented.append(self.server.records)
        if self.served.material.certificates not in [b"", *self.certificates[-1:]]:
            self.certificates.append(self.served.material.certificates)

    async def sleep(self, seconds: float) -> None:
        """Moves the clock."""
        assert 0 < seconds <= max(STEP, SETTLE)
        self.now += seconds
        if self.now > self._end:
            raise Done

    async def connect(self, acme: Acme) -> Any:
        """Notes the attempt."""
        self.attempts.append(self.now - self.begun)
        return await self.server.connect(acme)

    async def last(self, seconds: float) -> None:
        """Runs a new manager for this time of the clock."""
        self._end = self.now + seconds
        manager = Manager(
            self.acme, self.publish, connect=self.connect, sleep=self.sleep, now=lambda: self.now, random=Random(1)
        )
        with contextlib.suppress(Done):
            await manager.run()

    @property
    def served(self) -> ServerTls:
        """Returns the certificate that the workers have."""
        return decode(self.data[self.acme.data_key])


async def test_the_first_certificate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The workers answer the challenge before the server asks, and stop after that. The certificate is stored."""
    caplog.set_level("INFO")
    run = Run(tmp_path, AcmeDouble())
    await run.last(60)
    assert run.attempts == [0]
    assert [list(values) for values in run.presented] == [[], ["a.example"], []]
    assert run.served.material.certificates == run.certificates[0]
    assert run.storage.certificate().key == run.served.material.key
    assert run.server.closed == 1
    assert f'new certificate domains=a.example valid_until="{time.gmtime(run.served.expires).tm_year}' in caplog.text
    secrets = [run.served.material.key, run.storage.account_key()]
    assert not any(secret.decode().split("\n")[1] in caplog.text for secret in secrets)


async def test_the_renewal(tmp_path: Path) -> None:
    """A third of the lifetime before the expiry, a little earlier at random. A restart continues where it was."""
    run = Run(tmp_path, AcmeDouble(seconds=9 * HOUR))
    await run.last(5.5 * HOUR)
    assert len(run.attempts) == 1
    await run.last(2 * HOUR)
    assert len(run.attempts) == 2
    assert 5.7 * HOUR - SETTLE <= run.attempts[1] <= 6 * HOUR + STEP
    assert len(run.certificates) == 2
    AccountKey.from_pem(run.storage.account_key())
    assert len(list(run.storage.folder.glob("account-*"))) == 1


async def test_failures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each failure makes the next delay longer, and the good certificate stays in use."""
    run = Run(tmp_path, AcmeDouble(seconds=3 * HOUR))
    await run.last(60)
    good = run.served.material
    run.server.faults = {"/order": [problem("serverInternal", "try\nlater", status=500)] * 10}
    await run.last(5 * HOUR)
    delays = [after - before for before, after in zip(run.attempts[1:], run.attempts[2:], strict=False)]
    assert len(delays) > 3
    for delay, usual in zip(delays, DELAYS, strict=False):
        assert usual * (1 - VARIATION) <= delay <= usual * (1 + VARIATION) + STEP
    assert run.served.material.key == good.key
    assert (run.served.failures, run.served.next_attempt > run.now) == (len(run.attempts) - 1, True)
    assert 'error="the server replied 500: serverInternal try later" valid_until="' in caplog.text
    run.server.faults = {}
    await run.last(HOUR)
    assert (run.served.failures, len(run.certificates)) == (0, 2)


async def test_a_rate_limit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The server's time is the least delay."""
    run = Run(tmp_path, AcmeDouble(seconds=9 * HOUR))
    run.server.faults = {"/order": [problem("rateLimited", status=429, retry_after="10000")]}
    await run.last(3 * HOUR)
    assert run.attempts == [0, pytest.approx(10000, abs=STEP)]
    assert "retry_seconds=10000" in caplog.text


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        pytest.param(AcmeError("acme.test: connect: refused"), "acme.test: connect: refused", id="network"),
        pytest.param(KeyError("secret"), "unexpected KeyError", id="an unknown error"),
        pytest.param(TimeoutError(), "not done within 900 s", id="an attempt that takes too long"),
    ],
)
async def test_an_attempt_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: Exception, text: str) -> None:
    run = Run(tmp_path, AcmeDouble())
    run.server.faults = {"/directory": [fault]}
    await run.last(120)
    assert f'no new certificate domains=a.example error="{text}" retry_seconds=' in caplog.text
    assert "secret" not in caplog.text
    assert len(run.certificates) == 1, "the second attempt succeeds"


async def test_a_wrong_certificate_replaces_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path, AcmeDouble())
    await run.last(60)
    good = run.storage.certificate()
    run.server.issue = lambda csr: run.server.issued(csr, ["b.example"])
    await run.last(HOUR)
    assert len(run.attempts) > 1
    assert (len(run.certificates), run.storage.certificate()) == (1, good)


async def test_certificates_with_a_short_life(tmp_path: Path) -> None:
    """A server cannot make this server order without pauses."""
    run = Run(tmp_path, AcmeDouble(seconds=5))
    await run.last(60)
    assert 2 <= len(run.attempts) <= 60 / LEAST_PAUSE + 1


async def test_a_storage_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is ordered, because each restart would order again."""
    (tmp_path / "acme").write_text("a file")
    run = Run(tmp_path, AcmeDouble())
    await run.last(30)
    assert run.server.orders == 0
    assert 'no new certificate domains=a.example error="cannot write' in caplog.text


async def test_a_certificate_that_cannot_be_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in use nevertheless, and written when that is possible."""
    run = Run(tmp_path, AcmeDouble())
    real = Storage.save
    failing = [True, True]

    def save(self: Storage, material: Material) -> None:
        if failing and failing.pop():
            self.folder.joinpath("x").mkdir()
            monkeypatch.setattr("svcdns.plugins.tls.acme.storage.replace_file", no_space)
            try:
                real(self, material)
            finally:
                monkeypatch.undo()
                monkeypatch.setattr(Storage, "save", save)
                self.folder.joinpath("x").rmdir()
        real(self, material)

    def no_space(_path: Path, _content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Storage, "save", save)
    await run.last(60)
    assert caplog.text.count('the new certificate is in use, but not saved domains=a.example error="cannot write') == 2
    assert "no space left on device" in caplog.text
    assert run.storage.certificate().key == run.served.material.key
    assert run.attempts == [0]


async def test_another_process_obtains_the_certificate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """This one waits, and uses the result."""
    caplog.set_level("INFO")
    run = Run(tmp_path, AcmeDouble())
    lock = run.storage.lock()
    assert lock is not None
    await run.last(60)
    assert run.attempts == []
    run.storage.save(Material(*pair()))
    os.close(lock)
    await run.last(60)
    assert (run.attempts, run.served.expires) == ([], expiry(pair().certificate))


async def test_a_process_notices_a_renewal_by_another(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run = Run(tmp_path, AcmeDouble())
    begun = run.connect

    async def connect(acme: Acme) -> Any:
        run.storage.save(Material(*pair()))
        await begun(acme)
        raise AcmeError("no network")

    run.connect = connect  # type: ignore[method-assign]
    await run.last(120)
    assert len(run.attempts) == 1
    assert "another process has renewed the certificate domains=a.example" in caplog.text
    assert run.served.expires == expiry(pair().certificate)


async def test_a_broken_file_in_the_storage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = Run(tmp_path, AcmeDouble())
    run.storage.folder.mkdir(parents=True)
    run.storage.path.write_bytes(b"x")
    await run.last(60)
    assert 'there is no certificate"' in caplog.text
    assert run.storage.certificate().certificates


async def test_a_cancelled_manager_frees_the_lock(tmp_path: Path) -> None:
    """The challenges of a Corefile that is no longer in use are not published again."""
    run, reached = Run(tmp_path, AcmeDouble()), asyncio.Event()

    async def sleep(_seconds: float) -> None:
        reached.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(Manager(run.acme, run.publish, connect=run.connect, sleep=sleep).run())
    async with asyncio.timeout(10):
        await reached.wait()
    published = len(run.presented)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert len(run.presented) == published
    lock = run.storage.lock()
    assert lock is not None
    os.close(lock)


def options(acme: Acme) -> Options:
    return Options(world.block("tls c k", "tls").directives[0].position, acme=acme)


async def test_a_new_corefile(tmp_path: Path) -> None:
    """A start has the stored certificate, or none. A reload has the certificate in use."""
    run = Run(tmp_path, AcmeDouble())
    pending = gather(options(run.acme), {})
    assert decode(pending[run.acme.data_key]).is_pending
    run.storage.save(Material(*pair()))
    for known in ({}, pending):
        data = gather(options(run.acme), known)
        assert decode(data[run.acme.data_key]).expires == expiry(pair().certificate)
    run.storage.path.unlink()
    assert gather(options(run.acme), data) == data


def test_the_root_of_the_authority_is_checked(tmp_path: Path) -> None:
    run = Run(tmp_path, AcmeDouble(), ca_root=str(tmp_path / "ca.crt"))
    with pytest.raises(Exception, match=r"Corefile:2:1 .*plugin/tls: open .*ca.crt: no such file"):
        gather(options(run.acme), {})
