"""The handler of *template* (docs/behaviour/plugins.md#template)."""

from __future__ import annotations

import asyncio

import pytest

from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import NOT_REUSABLE, UNTIL_CHANGED, CacheScope, Reply
from svcdns.plugins.template import PLUGIN, parse
from svcdns.telemetry.counters import Counters
from svcdns.wire import names
from svcdns.wire.codes import AA, CD, RD, TC, Class, Rcode, type_text
from svcdns.wire.record import Edns
from tests.support import world

NEXT_PLUGIN = Reply(rcode=Rcode.NOTAUTH, lifetime=UNTIL_CHANGED)
SOA = '"{{ .Zone }} 60 IN SOA ns. mail. 1 2 3 4 5"'


def run(text: str, name: str = "a.z.", rtype: str = "A", counters: Counters | None = None, **fields: object) -> Answer:
    """Returns the answer of the *template* directives in `text`, or NEXT_PLUGIN if none matches."""
    plugin = PLUGIN(parse(world.block(text, "template", zones="z")), world.environment(counters=counters or Counters()))
    return world.handled(plugin, world.query(name, rtype, server="dns://:53", **fields), world.following(NEXT_PLUGIN))  # type: ignore[arg-type]


def summary(*given: object, **fields: object) -> list[str]:
    """Returns the reply of the *template* directives as text lines."""
    return world.summary(world.now(run(*given, **fields)))  # type: ignore[arg-type]


def test_a_reply_with_all_sections() -> None:
    """The reply has AA, and is valid until a change. Each use is counted."""
    counters = Counters()
    answers = '"{{ .Name }} A 10.0.0.1" "x.{{ .Name }} 5 IN A 10.0.0.2"'
    text = f'template IN A {{\n answer {answers}\n additional "b A 10.0.0.3"\n authority {SOA}\n}}'
    reply = world.now(run(text, "A.z.", counters=counters, flags=RD | CD))
    assert world.summary(reply) == [
        "NOERROR",
        "a.z. 3600 IN A 10.0.0.1",
        "x.a.z. 5 IN A 10.0.0.2",
        "auth z. 60 IN SOA ns. mail. SERIAL 2 3 4 5",
        "add b. 3600 IN A 10.0.0.3",
    ]
    assert (reply.flags, reply.lifetime, reply.scope) == (AA | RD | CD, UNTIL_CHANGED, CacheScope.SHARED)
    series = ("coredns_template_matches_total", "dns://:53", "z.", "", "IN", "A")
    assert world.counted(counters) == {series: 1}
    counters.add(*reply.increments[0])
    assert world.counted(counters) == {series: 2}


@pytest.mark.parametrize(
    ("text", "name", "rtype", "rclass", "applies"),
    [
        pytest.param("template IN A", "a.z.", "A", Class.IN, True, id="zone, class and type"),
        pytest.param("template IN A", "a.y.", "A", Class.IN, False, id="another zone"),
        pytest.param("template IN A b.y", "x.B.y.", "A", Class.IN, True, id="a zone of its own"),
        pytest.param("template IN A", "a.z.", "MX", Class.IN, False, id="another type"),
        pytest.param("template IN A", "a.z.", "A", Class.CH, False, id="another class"),
        pytest.param("template ANY ANY", "a.z.", "MX", Class.CH, True, id="all classes and types"),
        pytest.param("template IN A", "a.z.", "ANY", Class.ANY, True, id="queries for ANY"),
    ],
)
def test_zone_class_and_type(text: str, name: str, rtype: str, rclass: int, applies: bool) -> None:
    """A query for another zone, class or type goes to the next plugin, even without `fallthrough`."""
    answer = run(text, name, rtype, rclass=rclass)
    assert (answer is not NEXT_PLUGIN) is applies


@pytest.mark.parametrize(
    ("lines", "rcode"),
    [
        pytest.param("match ^b\nrcode NXDOMAIN", "SERVFAIL", id="no match"),
        pytest.param("match ^b\nfallthrough", "NOTAUTH", id="no match, falls through"),
        pytest.param("match ^b\nfallthrough b.z", "SERVFAIL", id="falls through for other names"),
        pytest.param("match ^b ^a\nrcode NXDOMAIN", "NXDOMAIN", id="the second pattern"),
        pytest.param("match ^A", "SERVFAIL", id="the name is in lower case"),
        pytest.param("expr type() == 'A'\nexpr name() == 'a.z.'\nrcode NXDOMAIN", "NXDOMAIN", id="all conditions"),
        pytest.param("expr type() == 'A'\nexpr name() == 'b.z.'", "SERVFAIL", id="one is false"),
        pytest.param("expr name() == 'b.z.'\nfallthrough", "NOTAUTH", id="one is false, falls through"),
        pytest.param("expr 1\nfallthrough", "NOTAUTH", id="one is not a boolean"),
        pytest.param("expr 1 / 0 == 1\nfallthrough", "SERVFAIL", id="one cannot be evaluated"),
        pytest.param("rcode SERVFAIL\nanswer `bad", "SERVFAIL", id="SERVFAIL has no message"),
    ],
)
def test_conditions(lines: str, rcode: str) -> None:
    """The rcode depends on whether all conditions of the rule are true."""
    reply = world.now(run(f"template IN A {{\n{lines}\n}}"))
    assert world.summary(reply) == [rcode]
    assert reply.has_message == (rcode != "SERVFAIL")


def test_a_rule_that_falls_through() -> None:
    text = "template IN A {\n match ^b\n fallthrough\n}\ntemplate ANY ANY {\n rcode NXDOMAIN\n}\ntemplate IN A {\n rcode REFUSED\n}"
    assert summary(text) == ["NXDOMAIN"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("{{ .Zone }}|{{ .Name }}|{{ .Class }}|{{ .Type }}", "z.|x-1.z.|IN|A", id="names"),
        pytest.param("{{ index .Match 0 }}|{{ index .Match 2 }}", "x-1.z.|1", id="the match"),
        pytest.param("{{ .Group.n }}|{{ index .Group `1` }}", "1|x", id="its groups"),
        pytest.param("{{ .Var.next }}|{{ .Var.kind }}", "2|A", id="variables"),
        pytest.param("{{ .Remote }}|{{ .Meta `a/b` }}", "192.0.2.1|", id="the client"),
        pytest.param(
            "{{ .Question.Name }}|{{ .Question.Qtype }}|{{ .Question.Qclass }}", "X-1.z.|1|1", id="the question"
        ),
        pytest.param(
            "{{ .Message.Id }}|{{ .Message.RecursionDesired }}|{{ .Message.CheckingDisabled }}",
            "7|true|false",
            id="the message",
        ),
        pytest.param(
            "{{ (index .Message.Question 0).Name }}|{{ .Message.Opcode }}", "X-1.z.|0", id="the message's question"
        ),
        pytest.param("{{ .Regex }}", "^(.)-(?P<n>[0-9])[.]z[.]$", id="the pattern"),
    ],
)
def test_data(text: str, expected: str) -> None:
    """Templates can use the fields of the query, the match, the variables and the client."""
    lines = f"match ^(.)-(?P<n>[0-9])[.]z[.]$\nvar next int(group('n')) + 1\nvar kind group(9) + type()\nanswer `x. TXT \"{text}\"`"
    lines = lines.replace("`x. ", '"x. ').replace('"`', '\\""').replace('TXT "', 'TXT \\"')
    reply = world.now(run(f"template IN A {{\n{lines}\n}}", "X-1.z.", ident=7))
    (record,) = reply.answer
    assert record.rdata == bytes((len(expected),)) + expected.encode()


def test_class_and_type_of_queries_for_any() -> None:
    """If the query's class or type is ANY, the template gets those of the rule. A type without a mnemonic is an empty
    text.
    """
    text = 'template IN ANY {\n answer "x. TXT [{{ .Class }}{{ .Type }}]"\n}'
    assert summary(text, rtype="ANY", rclass=255)[1] == 'x. 3600 IN TXT "[INANY]"'
    query = world.query("a.z.").changed(rtype=65280)
    plugin = PLUGIN(parse(world.block(text, "template", zones="z")), world.environment())
    assert (
        world.summary(world.now(world.handled(plugin, query, world.following(NEXT_PLUGIN))))[1]
        == 'x. 3600 IN TXT "[IN]"'
    )


@pytest.mark.parametrize(
    ("lines", "per_client"),
    [
        pytest.param('answer "a. A {{ .Remote }}"', True, id="the client in a template"),
        pytest.param('answer "a. TXT {{ .Message.Id }}"', True, id="the id in a template"),
        pytest.param("expr client_ip() == '192.0.2.1'", True, id="the client in a condition"),
        pytest.param(
            "expr client_ip() == '192.0.2.9'\nfallthrough", True, id="the client in a condition that falls through"
        ),
        pytest.param("var x port()\nrcode NXDOMAIN", True, id="the port"),
        pytest.param("match ^b\nexpr client_ip() == ''\nfallthrough", False, id="a condition that is not evaluated"),
        pytest.param("expr name() == 'a.z.'", False, id="the packet alone"),
    ],
)
def test_replies_that_depend_on_more_than_the_packet_are_not_reused(lines: str, per_client: bool) -> None:
    """If a template or a condition uses the client, the reply is for this client only."""
    reply = world.now(run(f"template IN A {{\n{lines}\n}}"))
    assert reply.scope == (CacheScope.CLIENT if per_client else CacheScope.SHARED)
    assert reply.lifetime == (NOT_REUSABLE if per_client else UNTIL_CHANGED)


def test_extended_errors() -> None:
    """The option `ederror` adds an extended error to the reply's OPT record."""
    reply = world.now(run('template IN A {\n rcode NXDOMAIN\n ederror 15 "blocked"\n}'))
    assert reply.edns == Edns(4096, dnssec_ok=True, options=((15, b"\0\x0fblocked"),))


@pytest.mark.parametrize(
    ("section", "text", "metric"),
    [
        pytest.param("answer", "{{ .Other }}", "template_template_failures", id="cannot be rendered"),
        pytest.param("additional", "{{ .Name }} 60 IN A x", "template_rr_failures", id="is not a record"),
        pytest.param("authority", "{{ .Name }}", "template_rr_failures", id="has a name only"),
        pytest.param("answer", " ", "template_rr_failures", id="is empty"),
        pytest.param("answer", "$INCLUDE /etc/hostname", "template_rr_failures", id="reads no file"),
        pytest.param("answer", "a..b A 10.0.0.1", "template_rr_failures", id="is not a name"),
    ],
)
def test_templates_that_fail(section: str, text: str, metric: str) -> None:
    """If a template cannot be rendered or makes no record, the reply is SERVFAIL. The failure is counted."""
    counters = Counters()
    reply = world.now(run(f'template IN A {{\n {section} "{text}"\n}}', counters=counters))
    assert (reply.rcode, reply.has_message, bool(reply.error)) == (Rcode.SERVFAIL, False, True)
    counted = world.counted(counters)
    assert counted[f"coredns_{metric}_total", "dns://:53", "z.", "", "IN", "A", section, text] == 1


class TestCname:
    """A template whose answer has a CNAME record."""

    CONFIG = 'template IN ANY {\n answer "{{ .Name }} CNAME b.z." "{{ .Name }} A 10.0.0.9"\n}'
    FOUND = Reply(flags=TC, answer=world.records("b.z. 5 IN A 10.0.0.1"), lifetime=5.0, dependencies=(("b",),))
    ANSWER = ("a.z. 3600 IN CNAME b.z.", "b.z. 5 IN A 10.0.0.1", "a.z. 3600 IN A 10.0.0.9")

    def run(self, found: Answer, rtype: str = "A") -> tuple[Answer, list[str]]:
        """Returns the answer, and the queries to the server."""
        queries: list[str] = []

        def ask(query: Query) -> Answer:
            queries.append(f"{names.to_text(query.name)} {type_text(query.rtype)}")
            return found

        return run(self.CONFIG, rtype=rtype, ask=ask), queries

    def test_is_followed(self) -> None:
        """The server's answer for the target comes after the CNAME record. The reply gets the reuse terms of the
        answer.
        """
        answer, queries = self.run(self.FOUND)
        reply = world.now(answer)
        assert (world.summary(reply), queries) == (["NOERROR", *self.ANSWER], ["b.z. A"])
        assert (reply.flags & TC, reply.lifetime, reply.dependencies) == (TC, 5.0, (("b",),))

    def test_waits_for_a_deferred_answer(self) -> None:
        async def later() -> Reply:
            await asyncio.sleep(0)
            return self.FOUND

        async def wait() -> list[str]:
            answer, _ = self.run(later())
            assert not isinstance(answer, Reply)
            return world.summary(await answer)

        assert asyncio.run(wait()) == ["NOERROR", *self.ANSWER]

    def test_is_not_followed(self) -> None:
        """A CNAME record is not followed for other query types. If the query for the target is dropped, nothing is
        added.
        """
        for found, rtype in ((self.FOUND, "TXT"), (Reply(dropped=True), "A")):
            answer, queries = self.run(found, rtype)
            assert world.summary(world.now(answer)) == ["NOERROR", self.ANSWER[0], self.ANSWER[2]]
            assert len(queries) == (rtype == "A")
