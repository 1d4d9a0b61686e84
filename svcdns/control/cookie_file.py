"""Follows the file with the secrets of DNS cookies that the replicas of a server share (RFC 9018 §5).

The file has one secret in a line: 32 hexadecimal digits. The first secret is for new cookies, and all are accepted.
Empty lines and lines that begin with `#` are ignored. While the file cannot be read, the previous secrets stay in use.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from svcdns.errors import SvcdnsError
from svcdns.log_line import LogLine
from svcdns.process.blocking_io import BlockingCalls
from svcdns.process.cookie_secrets import MAX_SECRETS, SECRET_SIZE, write_secrets

VARIABLE: Final = "SVCDNS_COOKIE_SECRETS"
"""The environment variable with the path of the file."""
INTERVAL: Final = 5.0
"""The seconds between two reads of the file."""

log = logging.getLogger("svcdns")


class CookieFileError(SvcdnsError):
    """Raised if the file has no secret, too many secrets, or a line that is not a secret.

    The text of the error does not contain the line.
    """


async def follow(path: Path, page: memoryview, calls: BlockingCalls, interval: float = INTERVAL) -> None:
    """Copies the secrets of the file to the shared memory `page`, at the start and whenever the file changes."""
    failure = ""
    before: tuple[bytes, ...] = ()
    while True:
        try:
            secrets = parse(await calls.run(f"the cookie secrets in {path}", path.read_text))
        except (SvcdnsError, OSError, ValueError) as error:
            if str(error) != failure:
                log.error(
                    LogLine("cookie secrets are not used; other secrets stay in use", variable=VARIABLE, error=error)
                )
            failure = str(error)
        else:
            failure = ""
            if secrets != before:
                write_secrets(page, secrets)
                log.info(LogLine("cookie secrets are in use", variable=VARIABLE, secrets=len(secrets)))
            before = secrets
        await asyncio.sleep(interval)


def parse(text: str) -> tuple[bytes, ...]:
    """Returns the secrets in the text of a secrets file. Raises CookieFileError."""
    secrets = []
    for number, line in enumerate(text.splitlines(), 1):
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        try:
            secret = bytes.fromhex(word)
        except ValueError:
            secret = b""
        if len(secret) != SECRET_SIZE:
            raise CookieFileError(f"line {number}: {2 * SECRET_SIZE} hexadecimal digits were expected")
        secrets.append(secret)
    if not 0 < len(secrets) <= MAX_SECRETS:
        raise CookieFileError(f"{len(secrets)} secrets; 1 to {MAX_SECRETS} were expected")
    return tuple(secrets)
