"""A database in the MaxMind DB format (https://maxmind.github.io/MaxMind-DB/), read by the library `maxminddb`.

The library's pure-Python reader takes octets, and checks each offset. The library's extension in C needs a path, and
workers may be unable to read the file.
"""

from __future__ import annotations

import io
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from maxminddb import MODE_FD, InvalidDatabaseError
from maxminddb.reader import Reader

from svcdns.errors import SvcdnsError

_CITY: Final = frozenset({
    "DBIP-City-Lite", "DBIP-Country-Lite", "DBIP-Country", "DBIP-Location (compat=City)", "GeoLite2-City",
    "GeoIP-City-Redacted-US", "GeoIP2-City", "GeoIP2-City-Africa", "GeoIP2-City-Asia-Pacific", "GeoIP2-City-Europe",
    "GeoIP2-City-North-America", "GeoIP2-City-South-America", "GeoIP2-Precision-City", "GeoLite2-Country", "GeoIP2-Country",
    "DBIP-ISP (compat=Enterprise)", "DBIP-Location-ISP (compat=Enterprise)", "GeoIP-Enterprise-Redacted-US",
    "GeoIP2-Enterprise",
})  # fmt: skip
"""The types of databases with places, as in CoreDNS."""
_ASN: Final = frozenset({
    "DBIP-ASN-Lite (compat=GeoLite2-ASN)", "GeoLite2-ASN", "GeoIP2-ISP", "GeoIP2-Precision-ISP",
})  # fmt: skip
"""The types of databases with autonomous systems, as in CoreDNS."""
_DAMAGED: Final = (InvalidDatabaseError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError)
"""The library's exceptions for damaged files: its own, and those of operations on values of a wrong type."""


class DatabaseError(SvcdnsError):
    """Raised if a file is no database, or if it is damaged."""


class Database:
    """A database in memory."""

    def __init__(self, data: bytes) -> None:
        """`data` is the content of the file, with or without other octets after it. Raises DatabaseError."""
        try:
            self._reader = Reader(io.BytesIO(data), MODE_FD)
            about = self._reader.metadata()
            self.kind = str(about.database_type)
            """The type of the database, such as `GeoLite2-City`."""
            self._has_ipv6 = about.ip_version == 6
        except _DAMAGED as error:
            raise DatabaseError("error opening database: invalid MaxMind DB file") from error
        self.has_city, self.has_asn = self.kind in _CITY, self.kind in _ASN

    def find(self, address: str) -> Any:
        """Returns the data of the network that contains an address; an empty map if there is none.

        Raises DatabaseError if the database is damaged.
        """
        try:
            host = ip_address(address.partition("%")[0])
        except ValueError:
            return {}
        if isinstance(host, IPv6Address):
            mapped = host.ipv4_mapped
            if mapped is None and not self._has_ipv6:
                return {}
            host = mapped or host
        try:
            found = self._reader.get(host)
        except _DAMAGED as error:
            raise DatabaseError(f"the database is damaged: {error}") from error
        return {} if found is None else found
