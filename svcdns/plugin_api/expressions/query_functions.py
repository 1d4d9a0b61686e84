"""The functions with which expressions read properties of a query (docs/behaviour/plugins.md#expressions)."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from svcdns.plugin_api.expressions.errors import EvaluationError
from svcdns.plugin_api.query import Query
from svcdns.wire import names
from svcdns.wire.codes import class_text, type_text


def _incidr(_: Query, address: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]) in ipaddress.ip_network(network, strict=False)
    except (ValueError, AttributeError) as error:
        raise EvaluationError(f"incidr: {error}") from error


def _bufsize(query: Query) -> int:
    if query.client.protocol == "tcp":
        return 65535
    return 512 if query.edns is None else max(512, query.edns.size)


_FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "type": lambda query: type_text(query.rtype),
    "name": lambda query: names.to_text(query.key),
    "class": lambda query: class_text(query.rclass),
    "proto": lambda query: query.client.protocol,
    "size": lambda query: query.size,
    "client_ip": lambda query: query.client.address,
    "port": lambda query: str(query.client.port),
    "id": lambda query: query.ident,
    "opcode": lambda query: query.opcode,
    "do": lambda query: query.dnssec_ok,
    "bufsize": _bufsize,
    "server_ip": lambda query: query.client.local_address,
    "server_port": lambda query: str(query.client.local_port),
    "incidr": _incidr,
    "metadata": lambda query, label: query.metadata(label),
}
FUNCTIONS: Final = frozenset(_FUNCTIONS)
"""The names of the functions."""

PER_CLIENT: Final = frozenset({"client_ip", "port", "id", "server_ip", "metadata"})
"""The functions that may return different values for equal packets."""


def query_functions(query: Query) -> Mapping[str, Callable[..., Any]]:
    """Returns the functions for one query, by name."""
    return {name: partial(function, query) for name, function in _FUNCTIONS.items()}
