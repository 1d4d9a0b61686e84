"""Converts record sets of Azure DNS to records.

The types are those of CoreDNS: A, AAAA, CNAME, MX, NS, PTR, SOA, SRV and TXT. A private zone has no NS records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from svcdns.log_line import LogLine
from svcdns.wire.record import Record
from svcdns.wire.zone_words import ZoneFileError

Fields = Mapping[str, Any]

_MANY: Final[dict[str, tuple[str, Callable[[Fields], str]]]] = {
    "arecords": ("A", lambda one: one["ipv4Address"]),
    "aaaarecords": ("AAAA", lambda one: one["ipv6Address"]),
    "mxrecords": ("MX", lambda one: f"{one['preference']} {_dotted(one['exchange'])}"),
    "ptrrecords": ("PTR", lambda one: _dotted(one["ptrdname"])),
    "srvrecords": ("SRV", lambda one: f"{one['priority']} {one['weight']} {one['port']} {_dotted(one['target'])}"),
    "txtrecords": ("TXT", lambda one: " ".join(map(_quoted, one["value"]))),
    "nsrecords": ("NS", lambda one: _dotted(one["nsdname"])),
}
"""By the lower-case name of a record set's property: the record type, and the function that makes zone text of a value.
"""
_SINGLE: Final[dict[str, tuple[str, Callable[[Fields], str]]]] = {
    "soarecord": ("SOA", lambda one: " ".join((_dotted(one["host"]), _dotted(one["email"]), *_numbers(one)))),
    "cnamerecord": ("CNAME", lambda one: _dotted(one["cname"])),
}
"""The same as `_MANY`, for properties that have a single record."""
_SOA_NUMBERS: Final = ("serialNumber", "refreshTime", "retryTime", "expireTime", "minimumTTL")


def records_of(record_set: Fields, records: list[Record]) -> list[str]:
    """Appends the records of a record set to `records`. Returns a log line for each record that cannot be read."""
    from svcdns.wire.zone_text import read_record

    properties = {name.lower(): value for name, value in record_set.get("properties", {}).items()}
    name, ttl = properties.get("fqdn", ""), properties.get("ttl", 0)
    warnings: list[str] = []
    for rtype, value in _values(properties):
        try:
            records.append(read_record(f"{name} {ttl} IN {rtype} {value()}"))
        except (KeyError, TypeError, ZoneFileError) as error:
            warnings.append(LogLine("a record is not used", name=name, type=rtype, error=error))
    return warnings


def _values(properties: Fields) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yields the type of each record, and a function that makes its value in zone text."""
    for key, (rtype, text) in _MANY.items():
        for one in properties.get(key) or ():
            yield rtype, partial(text, one)
    for key, (rtype, text) in _SINGLE.items():
        if properties.get(key):
            yield rtype, partial(text, properties[key])


def _numbers(soa: Fields) -> list[str]:
    return [str(soa[name]) for name in _SOA_NUMBERS]


def _dotted(name: str) -> str:
    return name if name.endswith(".") else f"{name}."


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
