"""The page with the cookie secrets, which comes after the regions in the shared memory."""

from __future__ import annotations

import os

from svcdns.process import cookie_secrets, shared_memory


def test_all_processes_read_the_same_secrets() -> None:
    """The page has a random base and at most eight secrets of the operator."""
    fd = shared_memory.create()
    cookie_secrets.add(fd)
    one, other = cookie_secrets.page(fd), cookie_secrets.page(fd)
    base = cookie_secrets.read_secrets(one)
    assert len(base) == cookie_secrets.BASE_SIZE
    assert any(base)
    cookie_secrets.add(fd)
    cookie_secrets.write_secrets(one, [bytes([number]) * 16 for number in range(9)])
    assert cookie_secrets.read_secrets(other) == base + b"".join(bytes([number]) * 16 for number in range(8))
    os.close(fd)


def test_a_mapping_without_the_page() -> None:
    fd = shared_memory.create()
    one, other = cookie_secrets.page(fd), cookie_secrets.page(fd)
    assert cookie_secrets.read_secrets(one) != cookie_secrets.read_secrets(other)
    os.close(fd)


def test_the_regions_stay_as_they_are() -> None:
    """Adding the page to a mapping of an earlier version does not change the regions."""
    fd = shared_memory.create()
    shared_memory.reset(shared_memory.regions(fd)[shared_memory.REGIONS - 1], shared_memory.State.SERVING)
    cookie_secrets.add(fd)
    last = shared_memory.regions(fd)[shared_memory.REGIONS - 1]
    assert shared_memory.state(last) is shared_memory.State.SERVING
    os.close(fd)
