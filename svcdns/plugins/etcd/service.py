"""The values of keys: services in the form of SkyDNS, as JSON (docs/plugins/etcd.md).

The control process decodes the values, by the rules of Go's `encoding/json`, which CoreDNS uses: names of fields match
without regard to case, unknown fields are ignored, and `null` leaves a field unset.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from svcdns.errors import SvcdnsError

MAX_VALUE: Final = 65536
"""The largest value in octets that is decoded. No larger text fits into a DNS message."""


class Service(msgspec.Struct, frozen=True, array_like=True):
    """A service in the form of SkyDNS. A number that is 0 stands for the default."""

    host: str = ""
    port: int = 0
    priority: int = 0
    weight: int = 0
    text: str = ""
    makes_mx: bool = False
    ttl: int = 0
    target_strip: int = 0
    group: str = ""


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A key with its service. If the value cannot be used, `error` is the reason. `lease` is 0 for no lease."""

    key: str
    service: Service
    lease: int = 0
    error: str = ""


class ServiceError(SvcdnsError):
    """Raised if a value is not a service."""


_FIELDS: Final[dict[str, tuple[str, type, int, int]]] = {
    "host": ("host", str, 0, 0),
    "port": ("port", int, -(2**63), 2**63 - 1),
    "priority": ("priority", int, -(2**63), 2**63 - 1),
    "weight": ("weight", int, -(2**63), 2**63 - 1),
    "text": ("text", str, 0, 0),
    "mail": ("makes_mx", bool, 0, 0),
    "ttl": ("ttl", int, 0, 2**32 - 1),
    "targetstrip": ("target_strip", int, -(2**63), 2**63 - 1),
    "group": ("group", str, 0, 0),
}
"""By field of the JSON object in lower case: the field of `Service`, its type, and the lowest and highest number."""


def read(value: bytes) -> Service:
    """Returns the service in a value. Raises ServiceError."""
    if len(value) > MAX_VALUE:
        raise ServiceError(f"the value has {len(value)} octets; at most {MAX_VALUE} are read")
    try:
        found = msgspec.json.decode(value.decode(errors="replace"))
    except (msgspec.DecodeError, RecursionError) as error:
        raise ServiceError(f"invalid JSON: {error}") from error
    if found is None:
        return Service()
    if not isinstance(found, dict):
        raise ServiceError("a JSON object was expected")
    fields: dict[str, Any] = {}
    for name, content in found.items():
        known = _FIELDS.get(name.lower())
        if known is None or content is None:
            continue
        field, kind, low, high = known
        if type(content) is not kind or (isinstance(content, int) and kind is int and not low <= content <= high):
            raise ServiceError(f"the field '{name}' has a value of a wrong type")
        fields[field] = content
    return Service(**fields)


def entry(key: bytes, value: bytes, lease: int) -> Entry:
    """Returns the entry for a key and its value."""
    text = key.decode(errors="replace")
    try:
        return Entry(text, read(value), lease)
    except ServiceError as error:
        return Entry(text, Service(), lease, str(error))
