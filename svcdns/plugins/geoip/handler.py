"""The `geoip` plugin: provides metadata, and passes every query on (docs/plugins/geoip.md)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from svcdns.log_line import LogLine
from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.fast_path import FastPath
from svcdns.plugin_api.query import Query
from svcdns.plugins.geoip.database import Database, DatabaseError
from svcdns.plugins.geoip.options import Options
from svcdns.wire.codes import OptionCode

MAX_KNOWN: Final = 4096
"""The most addresses whose data are remembered; when there are more, all are forgotten."""


class GeoIP(Plugin):
    """Provides metadata about the address of the client."""

    name = "geoip"
    reads_nothing = True
    client_class_dependencies = frozenset({"geoip"})

    def __init__(self, options: Options, environment: Environment) -> None:
        """Uses the database that the control process has sent, and each one that it sends later."""
        self.options, self._environment = options, environment
        self._database: Database | None = None
        self._known: dict[str, dict[str, str]] = {}
        data = environment.data(self.name, options.path)
        if data is not None:
            self._database = Database(data)
        environment.on_data(self.name, options.path, self._replace)

    def _replace(self, data: bytes) -> None:
        self._database = Database(data)
        self._known.clear()
        self._environment.invalidate((("geoip", self.options.path),))

    def name_independent(self, zone: bytes) -> bool:  # noqa: ARG002 - all zones
        """Returns True: negative answers pass unchanged."""
        return True

    def join_fast_path(self, fast_path: FastPath) -> bool:  # noqa: ARG002 - nothing to set
        """Returns True: forwarded queries pass unchanged."""
        return True

    def metadata(self, query: Query, label: str) -> str:
        """Returns the metadata about the client's address, or about the network in the option Client Subnet."""
        address = _subnet(query) if self.options.edns_subnet else ""
        return self.client_metadata(address or query.client.address, label)

    def client_metadata(self, address: str, label: str) -> str:
        """Returns the metadata about an address."""
        found = self._known.get(address)
        if found is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            found = self._known[address] = self._labels(address)
        return found.get(label, "")

    def _labels(self, address: str) -> dict[str, str]:
        database = self._database
        if database is None:
            return {}
        try:
            data = database.find(address)
        except DatabaseError as error:
            self._environment.log.debug(LogLine("a lookup failed", address=address, error=error))
            return {}
        found = data if isinstance(data, dict) else {}
        return (_city(found) if database.has_city else {}) | (_asn(found) if database.has_asn else {})


def _subnet(query: Query) -> str:
    """Returns the address in the option Client Subnet (RFC 7871 §6); empty without the option."""
    for code, data in query.edns.options if query.edns is not None else ():
        if code == OptionCode.CLIENT_SUBNET and len(data) >= 4:
            octets = data[4:]
            if data[:2] == b"\0\1":
                return ".".join(str(octet) for octet in octets[:4].ljust(4, b"\0"))
            if data[:2] == b"\0\2":
                return octets[:16].ljust(16, b"\0").hex(":", 2)
    return ""


def _city(data: dict[str, Any]) -> dict[str, str]:
    country = _map(data, "country")
    regions = data.get("subdivisions")
    codes = [_text(one, "iso_code") for one in regions] if isinstance(regions, list) else []
    return {
        "geoip/city/name": _text(_map(data, "city", "names"), "en"),
        "geoip/country/name": _text(_map(country, "names"), "en"),
        "geoip/country/code": _text(country, "iso_code"),
        "geoip/country/is_in_european_union": "true" if country.get("is_in_european_union") is True else "false",
        "geoip/continent/name": _text(_map(data, "continent", "names"), "en"),
        "geoip/continent/code": _text(_map(data, "continent"), "code"),
        "geoip/subdivisions/code": ",".join(codes),
        "geoip/latitude": _number(_map(data, "location").get("latitude")),
        "geoip/longitude": _number(_map(data, "location").get("longitude")),
        "geoip/timezone": _text(_map(data, "location"), "time_zone"),
        "geoip/postalcode": _text(_map(data, "postal"), "code"),
    }


def _asn(data: dict[str, Any]) -> dict[str, str]:
    number = data.get("autonomous_system_number")
    return {
        "geoip/asn/number": str(number) if isinstance(number, int) else "0",
        "geoip/asn/org": _text(data, "autonomous_system_organization"),
    }


def _map(data: dict[str, Any], *keys: str) -> dict[str, Any]:
    found: Any = data
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _text(data: Any, key: str) -> str:
    value = data.get(key) if isinstance(data, dict) else None
    return value if isinstance(value, str) else ""


def _number(value: Any) -> str:
    """Returns a number with as many digits as it needs and without an exponent; empty if there is none."""
    return format(Decimal(repr(value)), "f").removesuffix(".0") if isinstance(value, float) else ""
