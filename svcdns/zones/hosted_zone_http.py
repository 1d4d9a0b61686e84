"""Requests to the HTTP APIs of DNS providers, for the clients of plugins. The control process calls them in threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from svcdns.zones.hosted_zone_refresh import Redactor
from svcdns.zones.hosted_zones import ProviderError

CONNECT_TIMEOUT: Final = 5.0
READ_TIMEOUT: Final = 10.0
"""Seconds to wait for a connection, and for octets of a reply."""
RETRIES: Final = 2
"""How often a request is repeated if no reply arrives, or if the status of the reply is in REPEATED."""
REPEATED: Final = (429, 500, 502, 503, 504)
PAUSE: Final = 0.25
"""The pause in seconds before a request is repeated the second time."""


def prepare(session: Any) -> None:
    """Sets how often a session of the library `requests` repeats requests."""
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    retry = Retry(total=RETRIES, backoff_factor=PAUSE, status_forcelist=REPEATED, raise_on_status=False)
    session.mount("https://", HTTPAdapter(max_retries=retry))


def new_session() -> Any:
    """Returns a session of the library `requests` that repeats requests."""
    import requests

    session = requests.Session()
    prepare(session)
    return session


class JsonApi:
    """Reads JSON objects over HTTPS."""

    def __init__(
        self,
        session: Any,
        redactor: Redactor,
        describe: Callable[[int, Any], str],
        failures: tuple[type[Exception], ...] = (),
    ) -> None:
        """`session` is a session of the library `requests`.

        `describe` returns the error text for a status and the JSON value of a reply. `failures` are exceptions of the
        session, in addition to those of `requests`.
        """
        self._session, self._redactor, self._describe, self._failures = session, redactor, describe, failures

    def get(self, url: str, parameters: Mapping[str, str], headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Returns the JSON object of a reply with the status 200. Raises ProviderError."""
        from requests.exceptions import RequestException

        caught: tuple[type[Exception], ...] = (RequestException, *self._failures)
        try:
            reply = self._session.get(
                url, params=parameters, headers=headers, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT), allow_redirects=False
            )
            try:
                value = reply.json()
            except ValueError:
                value = None
        except caught as error:
            raise ProviderError(self._redactor.text(error)) from None
        if reply.status_code != 200 or not isinstance(value, dict):
            raise ProviderError(self._redactor.text(ValueError(self._describe(reply.status_code, value))))
        return value


def readable(path: str) -> bytes:
    """Returns the content of a file. Raises ProviderError with the text that CoreDNS has."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise ProviderError(f"open {path}: {reason}") from error
