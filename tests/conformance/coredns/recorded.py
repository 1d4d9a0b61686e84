"""Recorded cases: a Corefile, and the answers of CoreDNS 1.14.7 to many queries about the cluster of `manifests.yaml`.

A case is a folder of `cases/`. It has a `Corefile` with placeholders, `answers.jsonl`, and `case.json` with the
settings that differ from the default:

- `ttl_slack`: the number of seconds by which TTLs may differ because of a cache.

- `exact_zone`: only answers with names of this zone have exact TTLs.

- `wait`: "answering" if the server never becomes ready.

- `api`: the fault of the API server: `refuse` with a status, `stall`, or `watch_list` for an API server without
WatchList.

- `accepted`: intended differences, each with its reason and its queries.

A line of `answers.jsonl` has a query and its valid answers. `ask` has the category, the name, the type and other
properties of the packet. `udp` has the answers. If the answers over TCP differ, `tcp` has them. If CoreDNS's answers
vary, several answers are listed.

Answers leave out default values: NOERROR, the flags AA RD, and an OPT record with the client's values. `soa` stands for
the SOA record of a cluster zone (zone, TTL, minimum) as the only record of the authority section. The placeholders
`{local_ip}`, `{local_dash}` and `{local_rev}` stand for the machine's own address.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
Answer = dict[str, Any]
NO_REPLY: Answer = {"timeout": True}


@dataclass(frozen=True)
class Query:
    """A query with the properties of its packet. If `size` is 0, the query has no EDNS. `extra` is a second question
    name, or "none" for no question.
    """

    category: str
    name: str
    type: str
    size: int = 1232
    do: bool = False
    rd: bool = True
    ad: bool = False
    cd: bool = False
    klass: str = "IN"
    opcode: str = "QUERY"
    version: int = 0
    option: str = ""
    extra: str = ""
    qr: bool = False
    source: str = ""
    only: str = ""

    def __str__(self) -> str:
        """Returns the query as text for failed tests."""
        usual = Query(self.category, self.name, self.type)
        unusual = [f"{key}={value}" for key, value in vars(self).items() if value != getattr(usual, key)]
        return " ".join((self.name, self.type, *unusual))


@dataclass(frozen=True)
class Line:
    """A query with its valid answers by transport."""

    query: Query
    answers: dict[str, list[Answer]]

    def expected(self, transport: str) -> list[Answer]:
        """Returns the valid answers for the transport, or an empty list if the query is not sent over it."""
        if self.query.only not in ("", transport):
            return []
        return self.answers.get(transport) or self.answers.get("udp", [])

    @property
    def whole(self) -> Answer | None:
        """Returns the first recorded answer that is not truncated. If there is none, returns None."""
        everything = [*self.answers.get("tcp", ()), *self.answers.get("udp", ())]
        return next((answer for answer in everything if "TC" not in answer.get("flags", ())), None)


@dataclass(frozen=True)
class Case:
    """A folder of `cases/`."""

    name: str
    ttl_slack: int = 0
    exact_zone: str = ""
    wait: str = "ready"
    api: dict[str, Any] = field(default_factory=dict)
    accepted: list[dict[str, Any]] = field(default_factory=list)

    @property
    def corefile(self) -> str:
        """Returns the Corefile of the case. Its ports are placeholders."""
        return fill_in((HERE / "cases" / self.name / "Corefile").read_text())

    @property
    def lines(self) -> list[Line]:
        """Returns all queries of the case, in the order of the recording."""
        text = fill_in((HERE / "cases" / self.name / "answers.jsonl").read_text())
        return [_line(json.loads(line)) for line in text.splitlines()]


def cases() -> list[Case]:
    folders = sorted(path.parent for path in (HERE / "cases").glob("*/Corefile"))
    return [Case(folder.name, **_settings(folder)) for folder in folders]


def manifests() -> list[dict[str, Any]]:
    """Returns the cluster objects that all cases use."""
    text = fill_in((HERE / "manifests.yaml").read_text())
    return [document for document in yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if document]


def own_address() -> str:
    """Returns the machine's IPv4 address, or 127.0.0.1 if it has only loopback. Sends no packet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def fill_in(text: str) -> str:
    """Returns the text with the machine's own address in its placeholders."""
    address = own_address()
    reverse = ".".join(reversed(address.split("."))) + ".in-addr.arpa"
    return (
        text.replace("{local_rev}", reverse)
        .replace("{local_dash}", address.replace(".", "-"))
        .replace("{local_ip}", address)
    )


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "case.json"
    settings: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return settings


def _line(given: dict[str, Any]) -> Line:
    category, name, rtype = given.pop("ask").split(" ")
    answers: dict[str, list[Answer]] = {
        transport: [_answer(one) for one in given.pop(transport)] for transport in ("udp", "tcp") if transport in given
    }
    return Line(Query(category, name, rtype, **given), answers)


def _answer(given: Answer) -> Answer:
    if "timeout" in given:
        return NO_REPLY
    out: Answer = {"rcode": "NOERROR", "edns": "echo"} | given
    out["flags"] = ["QR", *given.get("flags", "AA RD").split()]
    if "soa" in given:
        zone, ttl, minimum = out.pop("soa").split()
        out["ns"] = [f"{zone} {ttl} IN SOA ns.dns.{zone} hostmaster.{zone} SERIAL 7200 1800 86400 {minimum}"]
    return {key: value for key, value in out.items() if value is not None}
