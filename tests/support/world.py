"""Helpers for tests of plugins: records from zone-file text, plugins with an environment, queries and replies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from svcdns.chain.link import link
from svcdns.cluster.index import Index
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.parser import parse as parse_corefile
from svcdns.plugin_api.contract import Following, Plugin
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.query import Answer, Client, Query
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.telemetry.counters import Counters, samples
from svcdns.wire import names
from svcdns.wire.codes import RD, Rcode, Type, rcode_text, type_text
from svcdns.wire.record import Edns, Record
from svcdns.wire.zone_text import read

CLIENT = Client("192.0.2.1", 40000, "192.0.2.53", 53, "udp")


def records(*lines: str) -> tuple[Record, ...]:
    """Returns the records in zone-file lines. All names in the lines are absolute."""
    return tuple(read("\n".join(lines), names.ROOT, "test"))


def shown(found: Iterable[Record]) -> list[str]:
    """Returns records as zone-file lines, in their order."""
    return [f"{names.to_text(r.owner)} {r.ttl} IN {type_text(r.rtype)} {rdata_text(r)}" for r in found]


def rdata_text(record: Record) -> str:
    """Returns RDATA as text. dnspython makes the text, and not svcdns."""
    import dns.rdata
    from dns.rdataclass import RdataClass
    from dns.rdatatype import RdataType

    return dns.rdata.from_wire(
        RdataClass.make(record.rclass), RdataType.make(record.rtype), record.rdata, 0, len(record.rdata)
    ).to_text()


def summary(reply: Reply) -> list[str]:
    """Returns the rcode and the records as text lines, with section names and without the SOA serial."""
    out = [rcode_text(reply.rcode)]
    for section, found in (("", reply.answer), ("auth ", reply.authority), ("add ", reply.additional)):
        for line in shown(found):
            words = line.split()
            if words[3] == "SOA":
                words[6] = "SERIAL"
            out.append(section + " ".join(words))
    return out


def query(text: str, rtype: str = "A", *, ask: Callable[[Query], Answer] | None = None, **fields: Any) -> Query:
    """Returns a query for a name in presentation form."""
    wire = names.from_text(text)
    values: dict[str, Any] = {"flags": RD, "edns": None, "rclass": 1, "client": CLIENT, "size": 40, **fields}
    for name, field in (("client", "requestor"), ("server", "listener"), ("ident", "message_id")):
        if name in values:
            values[field] = values.pop(name)
    return Query(
        name=wire,
        key=wire.lower(),
        rtype=int(Type[rtype]),
        ask_server=ask or (lambda _: rcode_only(Rcode.REFUSED)),
        **values,
    )


def edns(size: int = 1232, **fields: Any) -> Edns:
    return Edns(size, **fields)


class Clock:
    """A clock that stands still until the test moves it."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def turn(self, seconds: float) -> None:
        """Moves the clock forward by `seconds`."""
        self.now += seconds


def block(text: str, name: str, zones: str = ".", root: str = "") -> Block:
    """Returns the server block of `text`, with the directives of the plugin `name`."""
    parsed = parse_corefile(f"{zones} {{\n{text}\n}}\n", "Corefile", environ={})
    whole = parsed.blocks[0]
    mine = tuple(d for d in whole.directives if d.name.text == name)
    return Block(mine, whole.keys, tuple(dict.fromkeys(k.zone for k in whole.keys)), whole.directives, root)


def environment(index: Index | None = None, **fields: Any) -> Environment:
    """Returns an environment for a plugin. `fields` replace parts of the environment."""
    kept: dict[Any, Any] = {}
    values: dict[str, Any] = {
        "block": Block((), (), (".",)),
        "server": "dns://:53",
        "view": "",
        "counters": Counters(),
        "clock": Clock(),
        "ask": lambda _: rcode_only(Rcode.REFUSED),
        "log": logging.getLogger("svcdns.plugin.test"),
        "index": lambda _: index,
        "kept": lambda key, make: kept.setdefault(key, None) or kept.update({key: make()}) or kept[key],
        "listen_addresses": (("127.0.0.1", 53),),
        **fields,
    }
    return Environment(**values)


def following(reply: Reply | None = None) -> Following:
    """Returns a function in the place of the following plugins. It answers every query with `reply`."""
    return lambda _: reply if reply is not None else rcode_only(Rcode.SERVFAIL, "the end")


def handled(plugin: Plugin, query: Query, following: Following) -> Answer:
    """Returns the plugin's answer with its reuse terms, as in a chain."""
    return link(plugin, following)(query)


def now(answer: Answer) -> Reply:
    """Asserts that the answer is a reply and not deferred, and returns it."""
    assert isinstance(answer, Reply)
    return answer


async def soon(answer: Answer) -> Reply:
    """Waits for a reply, and returns it."""
    return answer if isinstance(answer, Reply) else await asyncio.wait_for(asyncio.ensure_future(answer), 10)


def counted(counters: Counters) -> dict[tuple[str, ...], float]:
    """Returns all counters that are not 0, by name and label values. A histogram's value is its number
    of observations.
    """
    out = {}
    for sample in samples(counters._region):
        value = sum(sample.cells[:-1]) if len(sample.cells) > 1 else sample.cells[0]
        if value:
            out[sample.family.name, *sample.values] = value
    return out


def options(name: str, text: str, **fields: Any) -> Any:
    """Parses `text` as directives of the plugin `name`, and returns its options."""
    import importlib

    return importlib.import_module(f"svcdns.plugins.{name}").parse(block(text, name, **fields))


def rejection(name: str, text: str, **fields: Any) -> str:
    """Returns the error for a wrong directive as `line:column message`. The block's opening line is line 1."""
    try:
        options(name, text, **fields)
    except CorefileError as error:
        return f"{error.position.line}:{error.position.column} {error.message}"
    raise AssertionError(f"{text!r} was accepted")
