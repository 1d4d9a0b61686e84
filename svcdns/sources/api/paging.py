"""Cutting what the API server sends into pieces that memory can take: how long the next page may be, and where events of a watch end."""

from __future__ import annotations

from svcdns.sources.api.client import ApiError

PAGE_OCTETS = 1 << 20
"""Octets of JSON that a page is to have, about; its objects take a few times as many until they are trimmed."""

LONGEST_PAGE = 500
"""Objects of a page, as in Kubernetes' own clients."""

GROWTH = 25
"""Times that a page may be longer than the one before it, of whose objects it is judged."""

LONGEST_LINE = 32 << 20
"""Bytes of one watch event; etcd takes objects of 1.5 MiB."""


class UnreadableError(ApiError):
    """The API server's bytes are not what they should be."""


class PageLimit:
    """How many objects the next page is to have: one, where the server has yet to show that it is well, then as many as fit."""

    def __init__(self) -> None:
        """One."""
        self.next = 1

    @property
    def cheap(self) -> bool:
        """Whether the next page is of one object."""
        return self.next == 1

    def probe(self) -> None:
        """One again."""
        self.next = 1

    def took(self, octets: int) -> None:
        """A page of `next` objects had so many octets."""
        fitting = PAGE_OCTETS * self.next // max(octets, 1)
        self.next = max(2, min(fitting, self.next * GROWTH, LONGEST_PAGE))


class LineSplitter:
    """Cuts a byte stream into lines; the unfinished last one is kept, up to `limit` bytes."""

    def __init__(self, limit: int = LONGEST_LINE) -> None:
        self._limit = limit
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` finishes, without their newlines. Raises UnreadableError for a line that is too long."""
        *lines, rest = chunk.split(b"\n")
        if lines and self._rest:
            lines[0] = bytes(self._rest) + lines[0]
            self._rest.clear()
        self._rest += rest
        if len(self._rest) > self._limit:
            raise UnreadableError(f"a watch event is longer than {self._limit} bytes")
        return [line for line in lines if line]
