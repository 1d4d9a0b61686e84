"""The secrets of DNS cookies, which all workers share.

The last page of the shared memory with the counters holds them.

The supervisor writes a random base, from which workers derive their secrets. If the operator has a file of secrets, the
control process writes these to the page, and workers use them instead. The page stays through an upgrade in place.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from typing import Final

from svcdns.process.shared_memory import REGION_SIZE, REGIONS

BASE_SIZE: Final = 32
SECRET_SIZE: Final = 16
"""The octets of a secret: a key of SipHash-2-4 (RFC 9018 §4.4)."""
MAX_SECRETS: Final = 8
PAGE: Final = mmap.ALLOCATIONGRANULARITY
_OFFSET: Final = REGIONS * REGION_SIZE
_SECRETS_AT: Final = BASE_SIZE + 1


def add(fd: int) -> None:
    """Adds the page, with a random base, to the shared memory `fd` of an earlier version, which has no such page."""
    if os.fstat(fd).st_size < _OFFSET + PAGE:
        os.ftruncate(fd, _OFFSET + PAGE)
        os.pwrite(fd, os.urandom(BASE_SIZE), _OFFSET)


def page(fd: int) -> memoryview:
    """Returns the page of the shared memory `fd`.

    If an earlier version made the memory without this page, returns a private page.
    """
    if os.fstat(fd).st_size < _OFFSET + PAGE:
        return private_page()
    return memoryview(mmap.mmap(fd, PAGE, offset=_OFFSET))


def private_page() -> memoryview:
    """Returns a page with a new random base that no other process has."""
    made = bytearray(PAGE)
    made[:BASE_SIZE] = os.urandom(BASE_SIZE)
    return memoryview(made)


def write_secrets(page: memoryview, secrets: Sequence[bytes]) -> None:
    """Writes the secrets of the operator, at most MAX_SECRETS. The first is for new cookies, and all are accepted."""
    kept = b"".join(secrets[:MAX_SECRETS])
    page[_SECRETS_AT : _SECRETS_AT + len(kept)] = kept
    page[BASE_SIZE] = len(kept) // SECRET_SIZE


def read_secrets(page: memoryview) -> bytes:
    """Returns the random base, from which workers derive secrets, followed by the secrets in the operator's file."""
    return bytes(page[:BASE_SIZE]) + bytes(page[_SECRETS_AT : _SECRETS_AT + SECRET_SIZE * page[BASE_SIZE]])
