"""The data of a query for templates (`.`), and the functions that expressions may call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from svcdns.corefile.regex import Regex
from svcdns.plugin_api.expressions import query_functions
from svcdns.plugin_api.query import Query
from svcdns.plugins.template.go_template import Struct
from svcdns.plugins.template.options import GROUP_FUNCTION
from svcdns.wire import names
from svcdns.wire.codes import AA, AD, CD, RA, RD, TC, Class, Type, Z, class_text, type_text

PER_CLIENT_FIELDS: Final = frozenset({"Remote", "Meta", "Id"})
"""The fields that may have different values for clients that send equal packets."""

_BITS: Final = {
    "Authoritative": AA, "Truncated": TC, "RecursionDesired": RD, "RecursionAvailable": RA, "Zero": Z, "AuthenticatedData": AD,
    "CheckingDisabled": CD,
}  # fmt: skip


def class_and_type(query: Query, rclass: int, rtype: int) -> tuple[str, str]:
    """Returns class and type of a query as text, for metrics and templates.

    `rclass` is used if the query's class is ANY, and `rtype` if its type is ANY. The text of a number without a
    mnemonic is empty.
    """
    class_name = class_text(query.rclass if query.rclass != Class.ANY else rclass)
    type_name = type_text(query.rtype if query.rtype != Type.ANY else rtype)
    return ("" if class_name.startswith("CLASS") else class_name), ("" if type_name.startswith("TYPE") else type_name)


def groups_of(pattern: Regex, match: tuple[str, ...]) -> dict[str, str]:
    """Returns the groups of a match. The keys are the names of the groups, and their numbers as text."""
    by_number = {str(number): group for number, group in enumerate(match)}
    return by_number | {name: match[number] for name, number in pattern.names}


def functions(query: Query, groups: dict[str, str]) -> dict[str, Callable[..., Any]]:
    """Returns the functions for expressions: one for each property of the query, and `group(name)`."""
    return {**query_functions(query), GROUP_FUNCTION: lambda name: groups.get(str(name), "")}


def root(
    query: Query, zone: str, shown: tuple[str, str], pattern: Regex, groups: tuple[str, ...], variables: dict[str, Any]
) -> Struct:
    """Returns the value of `.` in templates, with the fields that CoreDNS has.

    `shown` is the result of `class_and_type`.
    """
    question = Struct(Name=names.to_text(query.name), Qtype=query.rtype, Qclass=query.rclass)
    bits = {field: bool(query.flags & bit) for field, bit in _BITS.items()}
    message = Struct(
        Id=query.ident, Response=False, Opcode=query.opcode, Rcode=query.flags & 15, Question=[question], Answer=[], Ns=[], **bits
    )  # fmt: skip
    return Struct(
        Zone=zone,
        Name=names.to_text(query.key),
        Regex=pattern.text,
        Match=list(groups),
        Group=groups_of(pattern, groups),
        Class=shown[0],
        Type=shown[1],
        Message=message,
        Question=question,
        Remote=query.client.address,
        Var=variables,
        Meta=query.metadata,
    )
