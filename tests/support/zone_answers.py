"""Recorded answers of CoreDNS 1.14.7 from zone files, and the plugin *file* with the same zone files.

The folder `tests/plugins/file/recorded` has the zone files and `answers.jsonl`. Each line of `answers.jsonl` has a
query (name, type, `DO`) and the reply (rcode and AA, then the records with their sections).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from svcdns.plugin_api.query import MAX_DEPTH, Answer, Query
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.plugins.file import File
from svcdns.wire import names
from svcdns.wire.codes import AA, Rcode, Type, rcode_text
from svcdns.wire.zone_text import read
from svcdns.zones.content import encode
from tests.support import world

RECORDED: Final = Path(__file__).parents[1] / "plugins" / "file" / "recorded"


class Recorded(NamedTuple):
    """A line of the recording."""

    name: str
    rtype: str
    dnssec: bool
    reply: list[str]

    def __str__(self) -> str:
        return f"{self.name} {self.rtype}{' DO' if self.dnssec else ''}"


def recording() -> list[Recorded]:
    """Returns the lines of the recording."""
    lines = map(json.loads, (RECORDED / "answers.jsonl").read_text().splitlines())
    return [Recorded(line["query"][0], line["query"][1], "DO" in line["query"], line["reply"]) for line in lines]


class Server:
    """The plugin *file* with all zones of the recording."""

    def __init__(self) -> None:
        zones = sorted(path.name.removesuffix(".zone") for path in RECORDED.glob("*.zone"))
        data = {f"{zone} {zone}.": self._encoded(zone) for zone in zones}
        options = world.options("file", "\n".join(f"file {zone} {zone}" for zone in zones))
        self.plugin: File = File(
            options, world.environment(data=lambda _plugin, key: data.get(key), peers=lambda _: (self.plugin,))
        )

    @staticmethod
    def _encoded(zone: str) -> bytes:
        found = read((RECORDED / f"{zone}.zone").read_text(), names.from_text(zone), zone)
        soa = [record for record in found if record.rtype == Type.SOA]
        return encode(soa[-1], found, 0)

    def _server(self, query: Query) -> Answer:
        if query.depth > MAX_DEPTH:
            return rcode_only(Rcode.SERVFAIL)
        return world.handled(self.plugin, query, world.following(rcode_only(Rcode.REFUSED)))

    def ask(self, line: Recorded) -> list[str]:
        """Returns the reply in the form of the recording."""
        edns = world.edns(dnssec_ok=True) if line.dnssec else None
        reply = world.now(self._server(world.query(line.name, line.rtype, ask=self._server, edns=edns)))
        return [rcode_text(reply.rcode) + " AA" * bool(reply.flags & AA), *_lines(reply)]


def _lines(reply: Reply) -> Iterable[str]:
    for section, found in (("", reply.answer), ("auth ", reply.authority), ("add ", reply.additional)):
        yield from (section + line for line in world.shown(found))
