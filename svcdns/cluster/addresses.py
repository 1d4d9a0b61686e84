"""Converts addresses in the spelling of Kubernetes to RDATA, to and from labels of names, and from reverse names."""

from __future__ import annotations

import socket
from ipaddress import IPv6Address
from typing import Final

from svcdns.wire import names
from svcdns.wire.codes import Type

_MAPPED: Final = bytes(10) + b"\xff\xff"


def rdata_of(text: str) -> tuple[int, bytes] | None:
    """Returns type and RDATA of the A or AAAA record for an address, or None if `text` is not an address.

    An IPv4-mapped IPv6 address is treated as IPv4.
    """
    try:
        if ":" not in text:
            return Type.A, socket.inet_pton(socket.AF_INET, text)
        packed = socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError, UnicodeEncodeError):
        return None
    return (Type.A, packed[12:]) if packed.startswith(_MAPPED) else (Type.AAAA, packed)


def pod_address(label: str) -> str:
    """Returns the address that the label of a Pod's name stands for (docs/behaviour/cluster-names.md#pods).

    A label with three single dashes is an IPv4 address, any other label is an IPv6 address.
    """
    if label.count("-") == 3 and "--" not in label:
        return label.replace("-", ".")
    return label.replace("-", ":")


def from_reverse(key: bytes) -> str:
    """Returns the address of a complete reverse name in canonical text, or an empty text for any other name.

    Source: docs/behaviour/cluster-names.md#reverse-names. As in CoreDNS, up to three labels before the 32 nibbles of an
    ip6.arpa name are ignored.
    """
    labels = [label.decode("latin-1") for label in reversed(names.labels_of(key))]
    try:
        if labels[:2] == ["arpa", "in-addr"] and len(labels) == 6:
            return socket.inet_ntop(socket.AF_INET, socket.inet_pton(socket.AF_INET, ".".join(labels[2:])))
        if labels[:2] == ["arpa", "ip6"] and 34 <= len(labels) < 38 and all(len(label) == 1 for label in labels[2:34]):
            return _go_text(bytes.fromhex("".join(labels[2:34])))
    except (OSError, ValueError):
        return ""
    return ""


def _go_text(packed: bytes) -> str:
    """Returns the text of an IPv6 address in the spelling of the API server: only IPv4-mapped addresses have dots."""
    if packed.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    if packed.startswith(bytes(12)):
        return str(IPv6Address(packed))  # the C library would write these addresses in dotted form
    return socket.inet_ntop(socket.AF_INET6, packed)


def endpoint_name(address: str, hostname: str, target: str, *, pod_names: bool) -> str:
    """Returns the label of an endpoint in names (docs/behaviour/cluster-names.md#endpoints).

    The label is the hostname, or else the name of the Pod if `pod_names` is true and the name fits into a label, or
    else the address with dashes. If the address is a host name without dots, the result is empty.
    """
    if hostname:
        return hostname
    if pod_names and 0 < len(target) <= names.MAX_LABEL:
        return target
    if "." in address:
        return address.replace(".", "-")
    if ":" not in address:
        return ""
    dashed = address.replace(":", "-")
    return dashed + "0" if dashed.endswith("-") else dashed
