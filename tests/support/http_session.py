"""A double of a session of the library `requests`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class Session:
    """Returns prepared replies, each a status and a JSON value, or raises prepared exceptions."""

    def __init__(self, *replies: tuple[int, Any] | Exception) -> None:
        self._replies = list(replies)
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.headers: list[Any] = []

    def get(self, url: str, **fields: Any) -> Any:
        """Returns the next reply."""
        self.requests.append((url, fields["params"]))
        self.headers.append(fields["headers"])
        reply = self._replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        status, value = reply

        def json() -> Any:
            if isinstance(value, ValueError):
                raise value
            return value

        return SimpleNamespace(status_code=status, json=json)
