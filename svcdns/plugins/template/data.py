"""What the texts of a template see of a question: the data behind `.`, and the functions of its expressions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from svcdns.corefile.regex import Regex
from svcdns.plugin_api.expressions import facts
from svcdns.plugin_api.query import Query
from svcdns.plugins.template.go_template import Struct
from svcdns.plugins.template.options import GROUP
from svcdns.wire import names
from svcdns.wire.codes import AA, AD, CD, RA, RD, TC, Class, Type, Z, class_text, type_text

PERSONAL_FIELDS: Final = frozenset({"Remote", "Meta", "Id"})
"""Fields that may differ between equal packets."""

_BITS: Final = {
    "Authoritative": AA, "Truncated": TC, "RecursionDesired": RD, "RecursionAvailable": RA, "Zero": Z, "AuthenticatedData": AD,
    "CheckingDisabled": CD,
}  # fmt: skip


def labels(query: Query, rclass: int, rtype: int) -> tuple[str, str]:
    """Class and type as metrics and texts show them: the asked ones, or for ANY the rule's; empty where there is no mnemonic."""
    asked_class = query.rclass if query.rclass != Class.ANY else rclass
    asked_type = query.rtype if query.rtype != Type.ANY else rtype
    shown_class, shown_type = class_text(asked_class), type_text(asked_type)
    return ("" if shown_class.startswith("CLASS") else shown_class), ("" if shown_type.startswith("TYPE") else shown_type)


def groups_of(pattern: Regex, match: tuple[str, ...]) -> dict[str, str]:
    """The groups of a match by number, as text, and by name."""
    by_number = {str(number): group for number, group in enumerate(match)}
    return by_number | {name: match[number] for name, number in pattern.names}


def functions(query: Query, groups: dict[str, str]) -> dict[str, Callable[..., Any]]:
    """The functions of expressions: the facts about the question, and `group(name)`."""
    return {**facts(query), GROUP: lambda name: groups.get(str(name), "")}


def root(query: Query, zone: str, shown: tuple[str, str], pattern: Regex, match: tuple[str, ...], variables: dict[str, Any]) -> Struct:
    """The data that texts see as `.`; its fields are those of CoreDNS's."""
    question = Struct(Name=names.to_text(query.name), Qtype=query.rtype, Qclass=query.rclass)
    bits = {field: bool(query.flags & bit) for field, bit in _BITS.items()}
    message = Struct(
        Id=query.ident, Response=False, Opcode=query.opcode, Rcode=query.flags & 15, Question=[question], Answer=[], Ns=[], **bits
    )  # fmt: skip
    return Struct(
        Zone=zone,
        Name=names.to_text(query.key),
        Regex=pattern.text,
        Match=list(match),
        Group=groups_of(pattern, match),
        Class=shown[0],
        Type=shown[1],
        Message=message,
        Question=question,
        Remote=query.client.address,
        Var=variables,
        Meta=lambda _label: "",
    )
