"""The plugin *file* with one zone, without a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from svcdns.plugin_api.query import MAX_DEPTH, Answer, Query
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.plugins.file import File
from svcdns.wire import names
from svcdns.wire.codes import Rcode, Type
from svcdns.wire.zone_text import read
from svcdns.zones.content import encode
from tests.support import world

ZONE = """\
$TTL 60
@        IN SOA ns root 7 2 3 4 30
         IN NS  ns
         IN MX  10 mail
ns       IN A   10.0.0.1
mail     IN A   10.0.0.2
www      IN A   10.0.0.3
www      IN AAAA 2001:db8::3
alias    IN CNAME www
out      IN CNAME host.example.net.
dangling IN CNAME nothing
loop     IN CNAME loop
*.wild   IN A   10.0.0.4
*.wildc  IN CNAME www
a.b.c    IN TXT "deep"
sub      IN NS  ns.sub
ns.sub   IN A   10.0.0.5
_s._tcp  IN SRV 0 0 80 www
moved    IN DNAME www
"""
SOA = "auth example.org. 30 IN SOA ns.example.org. root.example.org. SERIAL 2 3 4 30"
NS = "auth example.org. 60 IN NS ns.example.org."
GLUE = "add ns.example.org. 60 IN A 10.0.0.1"


class Server:
    """The plugin *file* with one zone. The test can change the zone's content."""

    def __init__(self, body: str = "", text: str | None = ZONE, **surroundings: Any) -> None:
        """Creates the plugin. `body` is the body of the directive. If `text` is None, the zone file has not been read
        yet.
        """
        self.calls: dict[str, Callable[[bytes], None]] = {}
        self.invalidated: list[Any] = []
        self.content = self._encoded(text) if text is not None else None
        self.plugin = File(
            world.options("file", f"file z example.org {{\n{body}\n}}"),
            world.environment(
                data=lambda _plugin, key: None if key.startswith("error ") else self.content,
                on_data=lambda _plugin, key, call: self.calls.update({key: call}),
                invalidate=self.invalidated.append,
                **surroundings,
            ),
        )

    @staticmethod
    def _encoded(text: str) -> bytes:
        records = read(text, names.from_text("example.org."), "z")
        return encode(next(record for record in records if record.rtype == Type.SOA), records, 0)

    def change(self, text: str) -> None:
        """Passes new zone content to the plugin, as control does after reading the file."""
        self.calls["z example.org."](self._encoded(text))

    def ask(
        self, name: str, rtype: str = "A", *, elsewhere: Reply | None = None, dnssec: bool = False, depth: int = 0
    ) -> Reply:
        """Returns the reply to a query. `elsewhere` is the server's reply for names outside the zone.

        If the plugin sends a query for a name in the zone, the plugin itself answers it.
        """

        def server(query: Query) -> Answer:
            if query.depth > MAX_DEPTH:
                return rcode_only(Rcode.SERVFAIL)
            if not names.is_within(query.key, names.from_text("example.org.")):
                return elsewhere or rcode_only(Rcode.REFUSED)
            return world.handled(self.plugin, query, world.following(Reply(rcode=Rcode.REFUSED)))

        query = world.query(name, rtype, ask=server, depth=depth, edns=world.edns(dnssec_ok=True) if dnssec else None)
        return world.now(world.handled(self.plugin, query, world.following(Reply(rcode=Rcode.REFUSED))))
