"""Recorded cases: a Corefile, and what CoreDNS 1.14.7 answered to many questions about the cluster of `manifests.yaml`.

A case is a folder of `cases/`: `Corefile` with places to fill in, `answers.jsonl`, and `case.json` where something differs from
the default: `ttl_slack` (seconds by which TTLs may drift, where a cache is in the way), `exact_zone` (no drift in answers all from it),
`wait` ("answering": the server never becomes ready), `api` (how the API server fails: `refuse` with a status, `stall`, `watch_list` not
known), and `accepted`: differences that are meant, each with its reason and the questions that show it.

A line of `answers.jsonl` has the question (`ask`: class, name, type; and what else is special about the packet), and the answers that are
right over `udp` and, where they differ, over `tcp`; more than one where CoreDNS itself varies. In an answer what is usual is left out:
NOERROR, the flags AA RD, an OPT record that mirrors the client's. `soa` stands for the SOA of a cluster zone (zone, TTL, minimum), alone in
the authority section. The texts `{local_ip}`, `{local_dash}` and `{local_rev}` stand for the machine's own address.
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
SILENCE: Answer = {"timeout": True}


@dataclass(frozen=True)
class Question:
    """A question and what is odd about its packet: `size` 0 is without EDNS, `extra` a second name, or "none" for no question."""

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
        """As a failing test shows it."""
        usual = Question(self.category, self.name, self.type)
        odd = [f"{key}={value}" for key, value in vars(self).items() if value != getattr(usual, key)]
        return " ".join((self.name, self.type, *odd))


@dataclass(frozen=True)
class Line:
    """A question with its right answers by transport."""

    question: Question
    answers: dict[str, list[Answer]]

    def expected(self, transport: str) -> list[Answer]:
        """Empty where the question is not put over that transport."""
        if self.question.only not in ("", transport):
            return []
        return self.answers.get(transport) or self.answers.get("udp", [])

    @property
    def whole(self) -> Answer | None:
        """An answer that is not truncated, if there is one."""
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
        """With its places still open."""
        return filled_in((HERE / "cases" / self.name / "Corefile").read_text())

    @property
    def lines(self) -> list[Line]:
        """All questions, in the order in which they were put."""
        text = filled_in((HERE / "cases" / self.name / "answers.jsonl").read_text())
        return [_line(json.loads(line)) for line in text.splitlines()]


def cases() -> list[Case]:
    """Every case, by name."""
    folders = sorted(path.parent for path in (HERE / "cases").glob("*/Corefile"))
    return [Case(folder.name, **_settings(folder)) for folder in folders]


def manifests() -> list[dict[str, Any]]:
    """The objects of the cluster that all cases share."""
    text = filled_in((HERE / "manifests.yaml").read_text())
    return [document for document in yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if document]


def own_address() -> str:
    """The machine's own IPv4 address beside loopback, or a loopback one. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def filled_in(text: str) -> str:
    """The text with the machine's own address in its places."""
    address = own_address()
    reverse = ".".join(reversed(address.split("."))) + ".in-addr.arpa"
    return text.replace("{local_rev}", reverse).replace("{local_dash}", address.replace(".", "-")).replace("{local_ip}", address)


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "case.json"
    settings: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return settings


def _line(given: dict[str, Any]) -> Line:
    category, name, rtype = given.pop("ask").split(" ")
    answers: dict[str, list[Answer]] = {
        transport: [_answer(one) for one in given.pop(transport)] for transport in ("udp", "tcp") if transport in given
    }
    return Line(Question(category, name, rtype, **given), answers)


def _answer(given: Answer) -> Answer:
    if "timeout" in given:
        return SILENCE
    out: Answer = {"rcode": "NOERROR", "edns": "echo"} | given
    out["flags"] = ["QR", *given.get("flags", "AA RD").split()]
    if "soa" in given:
        zone, ttl, minimum = out.pop("soa").split()
        out["ns"] = [f"{zone} {ttl} IN SOA ns.dns.{zone} hostmaster.{zone} SERIAL 7200 1800 86400 {minimum}"]
    return {key: value for key, value in out.items() if value is not None}
