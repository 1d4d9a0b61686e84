"""Limits the memory for responses of the API server: the size of list pages, and of events of a watch."""

from __future__ import annotations

from svcdns.sources.api.client import ApiError

PAGE_OCTETS = 1 << 20
"""The octets of JSON that a page should have. Its objects take a few times as much memory until they are trimmed."""

LONGEST_PAGE = 500
"""The most objects of a page, as in Kubernetes' own clients."""

GROWTH = 25
"""A page has at most this many times the objects of the last page, from which its size is estimated."""

LONGEST_LINE = 32 << 20
"""The most octets of one watch event; etcd stores objects of at most 1.5 MiB."""


class UnreadableError(ApiError):
    """A response of the API server cannot be decoded."""


class PageLimit:
    """The number of objects to request in the next page of a list.

    The number is 1 until the server has answered. Later pages have about PAGE_OCTETS.
    """

    def __init__(self) -> None:
        """Starts with a page of one object."""
        self.next = 1

    @property
    def cheap(self) -> bool:
        """Returns True if the next page is limited to one object."""
        return self.next == 1

    def probe(self) -> None:
        """Sets the size of the next page to one object, to test whether the server answers."""
        self.next = 1

    def took(self, octets: int) -> None:
        """Computes the size of the next page from the last one, which had `next` objects and `octets` octets of
        JSON.
        """
        fitting = PAGE_OCTETS * self.next // max(octets, 1)
        self.next = max(2, min(fitting, self.next * GROWTH, LONGEST_PAGE))


class LineSplitter:
    """Splits a stream of octets into lines. An incomplete line is kept, up to `limit` octets."""

    def __init__(self, limit: int = LONGEST_LINE) -> None:
        self._limit = limit
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """Returns the lines that `chunk` completes, without newlines.

        Raises UnreadableError if a line is too long.
        """
        *lines, rest = chunk.split(b"\n")
        if lines and self._rest:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest.clear()
        self._rest += rest
        if len(self._rest) > self._limit:
            raise UnreadableError(f"a watch event is longer than {self._limit} bytes")
        return [line for line in lines if line]
