"""The size of the next page of a list, and dividing a watch stream into lines."""

from __future__ import annotations

import pytest

from svcdns.sources.api.paging import LineSplitter, PageLimit, UnreadableError


@pytest.mark.parametrize(
    ("octets_each", "limits"),
    [(1_000, [1, 25, 500, 500]), (10_000, [1, 25, 104, 104]), (100_000, [1, 10, 10, 10]), (2_000_000, [1, 2, 2, 2])],
    ids=["small", "middle", "large", "largest"],
)
def test_pages_grow_up_to_a_bound(octets_each: int, limits: list[int]) -> None:
    """A page has one object at first, and at most about 1 MiB or 500 objects. The size of earlier objects is used."""
    limit = PageLimit()
    seen = []
    for _ in limits:
        seen.append(limit.next)
        limit.took(octets_each * limit.next)
    assert seen == limits


def test_after_a_failure_a_page_has_one_object() -> None:
    limit = PageLimit()
    limit.took(1000)
    assert not limit.cheap
    limit.probe()
    assert limit.cheap
    assert limit.next == 1


def test_lines_do_not_depend_on_the_chunks() -> None:
    octets = b"one\ntwo\n\nthree\n"
    for size in range(1, len(octets) + 1):
        splitter = LineSplitter()
        lines = [line for at in range(0, len(octets), size) for line in splitter.feed(octets[at : at + size])]
        assert lines == [b"one", b"two", b"three"]


def test_a_line_beyond_the_limit_is_an_error() -> None:
    splitter = LineSplitter(10)
    splitter.feed(b"x" * 10)
    with pytest.raises(UnreadableError, match="longer than 10 bytes"):
        splitter.feed(b"x")
