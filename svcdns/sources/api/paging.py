"""Limits the memory for replies of the API server: the length of the next page, and the events in the stream of a
watch."""

from __future__ import annotations

from svcdns.sources.api.client import ApiError

PAGE_OCTETS = 1 << 20
"""Octets of JSON that a page has, about. Its objects take a few times as many until they are trimmed."""

LONGEST_PAGE = 500
"""Objects of a page at most, as in Kubernetes' own clients."""

GROWTH = 25
"""Times that a page may be longer than the one before it, from whose objects its length is computed."""

LONGEST_LINE = 32 << 20
"""Octets of one watch event; etcd stores objects of 1.5 MiB at most."""


class UnreadableError(ApiError):
    """A reply of the API server cannot be decoded."""


class PageLimit:
    """The number of objects of the next page: one until the server has shown that it is healthy,
    then as many as fit.
    """

    def __init__(self) -> None:
        """Begins with one."""
        self.next = 1

    @property
    def cheap(self) -> bool:
        """Whether the next page has one object."""
        return self.next == 1

    def probe(self) -> None:
        """Goes back to one."""
        self.next = 1

    def took(self, octets: int) -> None:
        """A page of `next` objects had `octets`."""
        fitting = PAGE_OCTETS * self.next // max(octets, 1)
        self.next = max(2, min(fitting, self.next * GROWTH, LONGEST_PAGE))


class LineSplitter:
    """Cuts a stream of octets into lines. An incomplete last line is stored, up to `limit` octets."""

    def __init__(self, limit: int = LONGEST_LINE) -> None:
        self._limit = limit
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes, without their newlines. Raises UnreadableError for a
        line that is too long.
        """
        *lines, rest = chunk.split(b"\n")
        if lines and self._rest:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest.clear()
        self._rest += rest
        if len(self._rest) > self._limit:
            raise UnreadableError(f"a watch event is longer than {self._limit} bytes")
        return [line for line in lines if line]
