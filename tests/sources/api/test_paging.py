"""The size of the next page, and splitting a watch stream into events."""

from __future__ import annotations

import pytest

from svcdns.sources.api.paging import LineSplitter, PageLimit, UnreadableError


@pytest.mark.parametrize(
    ("octets_each", "limits"),
    [(1_000, [1, 25, 500, 500]), (10_000, [1, 25, 104, 104]), (100_000, [1, 10, 10, 10]), (2_000_000, [1, 2, 2, 2])],
    ids=["small", "middle", "large", "largest"],
)
def test_pages_grow_to_what_fits(octets_each: int, limits: list[int]) -> None:
    """The page size grows from one object up to 1 MiB or 500 objects, depending on the size of earlier objects."""
    limit = PageLimit()
    seen = []
    for _ in limits:
        seen.append(limit.next)
        limit.took(octets_each * limit.next)
    assert seen == limits


def test_after_trouble_a_page_is_of_one_object() -> None:
    """After a failure, the next page is limited to one object, which is cheap for the server."""
    limit = PageLimit()
    limit.took(1000)
    assert not limit.cheap
    limit.probe()
    assert limit.cheap
    assert limit.next == 1


def test_lines_are_cut_out_of_any_chunks() -> None:
    """Lines are split correctly wherever a chunk ends; empty lines are ignored."""
    octets = b"one\ntwo\n\nthree\n"
    for size in range(1, len(octets) + 1):
        splitter = LineSplitter()
        lines = [line for at in range(0, len(octets), size) for line in splitter.feed(octets[at : at + size])]
        assert lines == [b"one", b"two", b"three"]


def test_a_line_without_end_is_not_kept_for_ever() -> None:
    """A line longer than the limit is an error, so that memory use is bounded."""
    splitter = LineSplitter(10)
    splitter.feed(b"x" * 10)
    with pytest.raises(UnreadableError, match="longer than 10 bytes"):
        splitter.feed(b"x")
