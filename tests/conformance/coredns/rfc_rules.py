"""Rules by which svcdns follows an RFC and CoreDNS does not.

The recorded answers stay unchanged. Each rule has a function `apply`, which returns the expected answer instead of a
recorded answer. docs/supported.md has a row for each rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.conformance.coredns.recorded import NO_REPLY, Answer, Query

DEFAULT_SIZE = 1232


@dataclass(frozen=True)
class Rule:
    """A rule: its name, the reason, and the function `apply`.

    `apply` gets the query, the recorded answer, and the UDP payload size that the server advertises. It returns the
    expected answer, or None if the rule does not concern the answer.
    """

    name: str
    reason: str
    change: Callable[[Query, Answer, int], Answer | None]


def _notify(query: Query, _: Answer, __: int) -> Answer | None:
    if query.opcode != "NOTIFY":
        return None
    flags = ["QR", *(["RD"] if query.rd else []), *(["AD"] if query.ad else []), *(["CD"] if query.cd else [])]
    return {"rcode": "NOTIMP", "opcode": "NOTIFY", "header_only": True, "flags": flags}


def _opt(query: Query, recorded: Answer, size: int) -> Answer | None:
    if not query.size or not ((recorded.get("header_only") and query.opcode != "QUERY") or query.extra):
        return None
    answer = {key: value for key, value in recorded.items() if key != "header_only"} | {"question": []}
    return _with_edns(query, answer, {"size": DEFAULT_SIZE, "do": query.do, "version": 0, "options": []})


def _other_class(query: Query, recorded: Answer, _: int) -> Answer | None:
    records = [record for section in ("an", "ns", "ar") for record in recorded.get(section, ())]
    if query.klass == "IN" or not any(record.split()[2] == "IN" for record in records):
        return None
    flags = ["QR", *(["RD"] if query.rd else []), *(["CD"] if query.cd else [])]
    return {"rcode": "REFUSED", "flags": flags} | ({"edns": recorded["edns"]} if "edns" in recorded else {})


def _size(query: Query, recorded: Answer, size: int) -> Answer | None:
    edns = _edns(query, recorded)
    if edns is None or edns["size"] == size or recorded.get("question") == []:
        return None
    return _with_edns(query, recorded, edns | {"size": size})


def _options(query: Query, recorded: Answer, _: int) -> Answer | None:
    edns = _edns(query, recorded)
    if edns is None or not edns["options"]:
        return None
    kept = [[code, data] for code, data in edns["options"] if code != 12 and (code != 3 or data)]
    return None if kept == edns["options"] else _with_edns(query, recorded, edns | {"options": kept})


def _dnssec_ok(query: Query, recorded: Answer, _: int) -> Answer | None:
    edns = _edns(query, recorded)
    if edns is None or edns["do"] == query.do:
        return None
    return _with_edns(query, recorded, edns | {"do": query.do})


RULES = (
    Rule("NOTIFY is not implemented", "a NOTIFY is not a query (RFC 1996 §4.7)", _notify),
    Rule("OPT", "a message with an OPT record gets one, also if it is not served (RFC 6891 §6.1.1)", _opt),
    Rule("no record of class IN", "the class of a record is that of the question (RFC 1035 §3.2.4)", _other_class),
    Rule("size", "the size in an OPT record is that of its sender (RFC 6891 §6.2.3)", _size),
    Rule("options", "options are not copied: NSID names a server, padding needs TLS (RFC 5001, RFC 8467)", _options),
    Rule("DO", "DO is copied from the query (RFC 3225 §3, RFC 8906 §8)", _dnssec_ok),
)


def expected(query: Query, recorded: list[Answer], size: int) -> tuple[list[Answer], set[str]]:
    """Returns the valid answers instead of the recorded answers, and the names of the rules that changed them."""
    used: set[str] = set()
    out = []
    for answer in recorded:
        changed = answer
        for rule in RULES if answer != NO_REPLY else ():
            found = rule.change(query, changed, size)
            if found is not None:
                used.add(rule.name)
                changed = found
        out.append(changed)
    return out, used


def advertised_size(corefile: str) -> int:
    """Returns the UDP payload size that a server with this Corefile advertises."""
    found = re.search(r"^\s*bufsize(?:[ \t]+(\d+))?", corefile, re.MULTILINE)
    return int(found[1]) if found and found[1] else DEFAULT_SIZE


def without_server_cookie(answer: Answer) -> Answer:
    """Returns the answer with only the client's part of a cookie. CoreDNS sends this part back."""
    edns: Any = answer.get("edns")
    if not isinstance(edns, dict):
        return answer
    options = [[code, data[:16] if code == 10 and len(data) == 48 else data] for code, data in edns["options"]]
    return answer | {"edns": edns | {"options": options}}


def _edns(query: Query, recorded: Answer) -> dict[str, Any] | None:
    edns: Any = recorded.get("edns")
    return {"size": query.size, "do": query.do, "version": 0, "options": []} if edns == "echo" else edns


def _with_edns(query: Query, recorded: Answer, edns: dict[str, Any]) -> Answer:
    mirrored = {"size": query.size, "do": query.do, "version": 0, "options": []}
    return recorded | {"edns": "echo" if edns == mirrored else edns}
