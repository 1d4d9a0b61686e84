"""The file with the cookie secrets that replicas share."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

import pytest

from svcdns.control.cookie_file import CookieFileError, follow, parse
from svcdns.process.blocking_io import BlockingCalls
from svcdns.process.cookie_secrets import BASE_SIZE, private_page, read_secrets
from tests.support.server import TIMEOUT

ONE, TWO = "e5e973e5a6b2a43f48e7dc849e37bfcf", "445536bcd2513298075a5d379663c962"


def test_one_secret_in_a_line() -> None:
    assert parse(f"# new\n{ONE}\n\n  {TWO}  \n") == (bytes.fromhex(ONE), bytes.fromhex(TWO))


@pytest.mark.parametrize("text", ["", "# nothing", ONE[:-2], ONE + "00", "x" * 32, f"{ONE}\nsecret", f"{ONE}\n" * 9])
def test_other_text_is_an_error(text: str) -> None:
    """The error does not repeat the line, which may be a mistyped secret."""
    with pytest.raises(CookieFileError) as caught:
        parse(text)
    assert "secret" not in str(caught.value) or "secrets;" in str(caught.value)


async def test_changes_of_the_file_are_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, page = tmp_path / "secrets", private_page()

    async def until(secrets: str) -> None:
        async with asyncio.timeout(TIMEOUT):
            while read_secrets(page)[BASE_SIZE:].hex() != secrets:
                await asyncio.sleep(0)

    async def until_logged(text: str) -> None:
        async with asyncio.timeout(TIMEOUT):
            while text not in caplog.text:
                await asyncio.sleep(0)

    with caplog.at_level(logging.INFO):
        following = asyncio.create_task(follow(file, page, BlockingCalls(logging.getLogger("svcdns")), 0.001))
        await until_logged("No such file")
        file.write_text(ONE)
        await until(ONE)
        file.write_text("wrong")
        await until_logged("line 1")
        assert read_secrets(page)[BASE_SIZE:].hex() == ONE
        file.write_text(f"{TWO}\n{ONE}")
        await until(TWO + ONE)
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
    assert ONE not in caplog.text
