"""The handler of *rewrite* (docs/behaviour/plugins.md#rewrite)."""

from __future__ import annotations

import asyncio

import pytest

from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import UNTIL_CHANGED, Reply, rcode_only
from svcdns.plugins.rewrite import PLUGIN, parse
from svcdns.wire import names
from svcdns.wire.codes import AA, CD, RD, TC, Rcode, class_text, type_text
from svcdns.wire.record import Edns
from tests.support import world


class Chain:
    """The plugin, followed by a chain that always returns the same reply. In the reply's records, `@` stands for the
    query name.
    """

    def __init__(self, rules: str, *records: str, reply: Reply | None = None) -> None:
        """Creates the plugin. `rules` are directives without their name, separated by `;`."""
        text = "\n".join(f"rewrite {rule.strip()}" for rule in rules.split(";"))
        self.rewrite = PLUGIN(parse(world.block(text, "rewrite")), world.environment())
        self.records, self.reply = records, reply
        self.queries: list[str] = []

    def follow(self, query: Query) -> Answer:
        """Acts as the next plugin: records the query, and returns the prepared reply."""
        self.queries.append(f"{names.to_text(query.name)} {class_text(query.rclass)} {type_text(query.rtype)}")
        if self.reply is not None:
            return self.reply
        name = names.to_text(query.name)
        return Reply(
            flags=AA, answer=world.records(*(line.replace("@", name) for line in self.records)), lifetime=UNTIL_CHANGED
        )

    def ask(self, name: str, rtype: str = "A", **fields: object) -> list[str]:
        """Returns the reply to a query as text lines."""
        return world.summary(world.now(world.handled(self.rewrite, world.query(name, rtype, **fields), self.follow)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rules", "name", "expected"),
    [
        pytest.param("name a.b c.d", "A.b.", "c.d. IN A", id="exact"),
        pytest.param("name a.b c.d", "X.a.b.", "X.a.b. IN A", id="no match keeps the spelling"),
        pytest.param("name prefix foo bar", "foo.b.", "bar.b. IN A", id="prefix"),
        pytest.param("name suffix .a.b .c", "X.a.b.", "x.c. IN A", id="suffix"),
        pytest.param("name substring a.b c", "x.a.b.", "x.c. IN A", id="substring"),
        pytest.param("name regex ^(.*)-(.*)\\.a\\.$ {2}.{1}.b", "x-y.a.", "y.x.b. IN A", id="regex"),
        pytest.param("type A AAAA", "X.", "X. IN AAAA", id="type"),
        pytest.param("class IN CH", "X.", "X. CH A", id="class"),
        pytest.param("name a b; name a c", "a.", "b. IN A", id="stop"),
        pytest.param("name a b; name b c", "a.", "b. IN A", id="stop ends the list"),
        pytest.param("continue name a b; name b c", "a.", "c. IN A", id="a rule after continue sees the new name"),
        pytest.param("name x y; type A MX", "a.", "a. IN MX", id="a rule that does not apply does not stop"),
        pytest.param("cname x y; type A MX", "a.", "a. IN A", id="cname always applies"),
        pytest.param("continue cname x y; type A MX", "a.", "a. IN MX", id="cname in mode continue"),
    ],
)
def test_queries(rules: str, name: str, expected: str) -> None:
    """After each rule the chain gets the expected query."""
    chain = Chain(rules)
    chain.ask(name)
    assert chain.queries == [expected]


SRV = "@ 5 IN SRV 0 1 80 x.@"


@pytest.mark.parametrize(
    ("rules", "name", "records", "expected"),
    [
        pytest.param("name a.b c.d", "A.B.", [SRV], ["a.b. 5 IN SRV 0 1 80 x.a.b."], id="exact, reverted in lower case"),
        pytest.param("name a.b c.d", "a.b.", ["xc.d. 5 IN A 10.0.0.1"], ["xc.d. 5 IN A 10.0.0.1"], id="exact, another name"),
        pytest.param("name suffix .b .c", "a.b.", [SRV], ["a.c. 5 IN SRV 0 1 80 x.a.c."], id="suffix"),
        pytest.param(
            "name suffix .b .c answer auto",
            "A.b.",
            ["@ 5 IN CNAME other.c.", "other.c. 5 IN A 10.0.0.1"],
            ["a.b. 5 IN CNAME other.b.", "other.b. 5 IN A 10.0.0.1"],
            id="suffix auto, every name",
        ),
        pytest.param(
            "name regex (.*)\\.b {1}.c answer auto",
            "a.b.",
            ["@ 5 IN CNAME other.c.", "other.c. 5 IN A 10.0.0.1"],
            ["a.b. 5 IN CNAME other.c.", "other.c. 5 IN A 10.0.0.1"],
            id="regex auto, the new name alone",
        ),
        pytest.param(
            "name regex (.*)\\.b {1}.c answer name (.*)\\.c {1}.x value (.*)\\.c {1}.y",
            "a.b.",
            [SRV],
            ["a.x. 5 IN SRV 0 1 80 x.a.y."],
            id="answer name and value",
        ),
        pytest.param(
            "continue name a.z b.z; name b.z c.z",
            "a.z.",
            ["@ 5 IN A 10.0.0.1"],
            ["a.z. 5 IN A 10.0.0.1"],
            id="two rules, undone in reverse order",
        ),
        pytest.param("ttl a 30", "a.", ["@ 5 IN A 10.0.0.1"], ["a. 30 IN A 10.0.0.1"], id="ttl"),
        pytest.param("ttl a 30-60", "a.", ["@ 5 IN A 10.0.0.1", "@ 90 IN A 10.0.0.2", "@ 40 IN A 10.0.0.3"],
            ["a. 30 IN A 10.0.0.1", "a. 60 IN A 10.0.0.2", "a. 40 IN A 10.0.0.3"], id="ttl between"),
        pytest.param("ttl b 30", "a.", ["@ 5 IN A 10.0.0.1"], ["a. 5 IN A 10.0.0.1"], id="ttl of another name"),
    ],
)  # fmt: skip
def test_replies(rules: str, name: str, records: list[str], expected: list[str]) -> None:
    """After each rule the client gets the expected reply."""
    assert Chain(rules, *records).ask(name) == ["NOERROR", *expected]


VALUES = (
    "@ 5 IN CNAME v.", "@ 5 IN DNAME v.", "@ 5 IN MX 1 v.", '@ 5 IN NAPTR 1 2 "u" "s" "!x!y!" v.', "@ 5 IN NS v.",
    "@ 5 IN PTR v.", "@ 5 IN SOA v. v. 1 2 3 4 5", "@ 5 IN SRV 1 2 3 v.", "@ 5 IN RP v. v.", '@ 5 IN TXT "v."',
)  # fmt: skip


def test_values_of_every_type() -> None:
    """A rule for answer values changes the first name in RDATA, for each type that has names there."""
    shown = [line.split(" ", 4)[4] for line in Chain("name suffix q q answer value v w", *VALUES).ask("q.")[1:]]
    assert shown == [
        "w.", "w.", "1 w.", '1 2 "u" "s" "!x!y!" w.', "w.", "w.", "w. v. SERIAL 2 3 4 5", "1 2 3 w.", "v. v.", '"v."',
    ]  # fmt: skip


def test_all_sections_are_rewritten() -> None:
    records = world.records("b. 5 IN A 10.0.0.1")
    reply = Reply(answer=records, authority=records, additional=records)
    assert Chain("name a b", reply=reply).ask("a.") == [
        "NOERROR", "a. 5 IN A 10.0.0.1", "auth a. 5 IN A 10.0.0.1", "add a. 5 IN A 10.0.0.1",
    ]  # fmt: skip


def test_the_ttl_of_an_opt_record_is_its_flags() -> None:
    """As in CoreDNS, a `ttl` rule also changes the TTL field of the OPT record, which has the DO bit."""
    for bounds, do, expected in (("30", True, False), ("32768-", False, True), ("0-40000", True, True)):
        chain = Chain(f"ttl a {bounds}", reply=Reply(edns=Edns(dnssec_ok=do)))
        reply = world.now(world.handled(chain.rewrite, world.query("a."), chain.follow))
        assert reply.edns == Edns(dnssec_ok=expected)


def test_response_codes() -> None:
    """An `rcode` rule changes the rcode of any reply. A reply of an rcode only becomes a full message, and keeps its
    error text.
    """
    assert Chain("rcode a NXDOMAIN NOERROR", reply=Reply(Rcode.NXDOMAIN)).ask("a.") == ["NOERROR"]
    assert Chain("rcode a NXDOMAIN NOERROR", reply=Reply(Rcode.REFUSED)).ask("a.") == ["REFUSED"]
    assert Chain("rcode b NXDOMAIN NOERROR", reply=Reply(Rcode.NXDOMAIN)).ask("a.") == ["NXDOMAIN"]
    chain = Chain("continue rcode a SERVFAIL REFUSED", reply=rcode_only(Rcode.SERVFAIL, "why"))
    reply = world.now(world.handled(chain.rewrite, world.query("a.", flags=RD | CD), chain.follow))
    assert (reply.rcode, reply.has_message, reply.flags, reply.error) == (Rcode.REFUSED, True, RD | CD, "why")


def test_which_rules_write_a_bare_response_code() -> None:
    """A reply of an rcode only becomes a full message if a matching rule is not `continue`."""
    for rules, has_message in (("type A MX", True), ("continue type A MX", False), ("type MX A", False)):
        chain = Chain(rules, reply=rcode_only(Rcode.SERVFAIL))
        assert world.now(world.handled(chain.rewrite, world.query("a."), chain.follow)).has_message is has_message


def test_a_dropped_query_stays_dropped() -> None:
    """Response rules do not apply, because there is no response."""
    dropped = Reply(dropped=True)
    chain = Chain("rcode a NOERROR REFUSED", reply=dropped)
    assert world.handled(chain.rewrite, world.query("a."), chain.follow) is dropped


@pytest.mark.parametrize(
    ("rules", "name"),
    [
        pytest.param("name substring b .", "a.b.", id="an empty label"),
        pytest.param(f"name prefix a {'x' * 64}", "a.b.", id="a long label"),
        pytest.param("name regex (.*) " + "{1}" * 9, "a" * 30 + ".", id="a long name"),
    ],
)
def test_an_invalid_query_name_is_servfail(rules: str, name: str) -> None:
    """The rewritten name is invalid, so the next plugin is not called."""
    chain = Chain(rules)
    reply = world.now(world.handled(chain.rewrite, world.query(name), chain.follow))
    assert (reply.rcode, reply.has_message, chain.queries) == (Rcode.SERVFAIL, False, [])
    assert reply.error.startswith("invalid name after rewrite: ")


def test_an_invalid_name_in_the_reply_is_servfail() -> None:
    """The rewritten reply has an invalid name. CoreDNS sends no reply."""
    chain = Chain("name suffix a a answer name (.*) {1}..", "@ 5 IN A 10.0.0.1")
    reply = world.now(world.handled(chain.rewrite, world.query("a."), chain.follow))
    assert (reply.rcode, reply.answer) == (Rcode.SERVFAIL, ())


def test_reuse_terms_stay() -> None:
    """A rewritten reply has the dependencies of the chain's reply."""
    records = world.records("b. 5 IN A 10.0.0.1")
    chain = Chain(
        "name a b",
        reply=Reply(
            answer=records, lifetime=UNTIL_CHANGED, dependencies=(("service", "d", "b"),), increments=((70, 1.0),)
        ),
    )
    reply = world.now(world.handled(chain.rewrite, world.query("a."), chain.follow))
    assert (reply.lifetime, reply.dependencies, reply.increments) == (
        UNTIL_CHANGED,
        (("service", "d", "b"),),
        ((70, 1.0),),
    )


def test_bounded_ttls_end_the_reply_before_they_go_down() -> None:
    """A lower TTL may need another bound, so the reply expires before its TTLs go down."""
    records = world.records("a. 31 IN A 10.0.0.1")
    for rules, expected in (("ttl a 30-", (0.5, UNTIL_CHANGED)), ("rcode a NXDOMAIN NOERROR", (9.0, 0.5))):
        chain = Chain(rules, reply=Reply(answer=records, lifetime=9.0, next_second=0.5))
        reply = world.now(world.handled(chain.rewrite, world.query("a."), chain.follow))
        assert (reply.lifetime, reply.next_second) == expected


def test_changes_of_the_chain_to_header_and_edns_reach_the_clients_query() -> None:
    """If a later plugin changes the rewritten query, the client's query gets the same flags and EDNS."""
    chain = Chain("continue name a b")

    def follow(query: Query) -> Answer:
        query.flags = 0
        query.edns = Edns(600)
        return Reply()

    query = world.query("a.", flags=RD, edns=Edns(1232))
    chain.rewrite.handle(query, follow)
    assert (query.flags, query.edns, names.to_text(query.name)) == (0, Edns(600), "a.")


class TestCname:
    """Rules of the kind `rewrite cname`."""

    ALIAS = ("@ 5 IN CNAME old.z.", "old.z. 5 IN CNAME older.z.", "older.z. 5 IN A 10.0.0.1")

    def run(self, rules: str, found: Answer, *records: str) -> tuple[Answer, list[tuple[str, str]]]:
        """Returns the answer for `a.`, and the queries to the server."""
        queries: list[tuple[str, str]] = []

        def ask(query: Query) -> Answer:
            queries.append((names.to_text(query.name), type_text(query.rtype)))
            return found

        chain = Chain(rules, *(records or self.ALIAS))
        return world.handled(chain.rewrite, world.query("a.", ask=ask), chain.follow), queries

    @pytest.mark.parametrize(
        "rule",
        [
            pytest.param("cname old.z new.z", id="exact"),
            pytest.param("cname prefix old. new.", id="prefix"),
            pytest.param("cname suffix old.z. new.z.", id="suffix"),
            pytest.param("cname substring old. new.", id="substring"),
            pytest.param("cname regex ^OLD\\.(.*)$ new.{1}", id="regex, lower case"),
        ],
    )
    def test_changes_the_target(self, rule: str) -> None:
        """The server's answer for the new target replaces the records after the CNAME record."""
        new = Reply(answer=world.records("new.z. 5 IN A 10.0.0.9"), lifetime=9, dependencies=(("new",),), flags=TC)
        answer, queries = self.run(rule, new)
        reply = world.now(answer)
        assert world.summary(reply) == ["NOERROR", "a. 5 IN CNAME new.z.", "new.z. 5 IN A 10.0.0.9"]
        assert queries == [("new.z.", "A")]
        assert (reply.flags & TC, reply.lifetime, reply.dependencies) == (TC, 9, (("new",),))

    def test_waits_for_a_deferred_answer(self) -> None:
        """If the answer for the new target is deferred, the reply is deferred, too."""

        async def later() -> Reply:
            await asyncio.sleep(0)
            return Reply(answer=world.records("new.z. 5 IN A 10.0.0.9"))

        async def run() -> list[str]:
            answer, _ = self.run("cname old.z new.z", later())
            assert not isinstance(answer, Reply)
            return world.summary(await answer)

        assert asyncio.run(run()) == ["NOERROR", "a. 5 IN CNAME new.z.", "new.z. 5 IN A 10.0.0.9"]

    def test_keeps_the_cname_records_before_it(self) -> None:
        answer, _ = self.run("cname older.z new.z", Reply())
        assert world.summary(world.now(answer)) == ["NOERROR", "a. 5 IN CNAME old.z.", "old.z. 5 IN CNAME new.z."]

    @pytest.mark.parametrize(
        ("rule", "found"),
        [
            pytest.param("cname other.z new.z", Reply(), id="another target"),
            pytest.param("cname regex ^other$ new.z", Reply(), id="no match"),
            pytest.param("cname prefix old. x..", Reply(), id="not a name"),
            pytest.param("cname old.z new.z", Reply(dropped=True), id="a dropped query"),
        ],
    )
    def test_does_not_apply(self, rule: str, found: Reply) -> None:
        """If the rule does not match, or the new target has no usable answer, the reply is not changed."""
        answer, _ = self.run(rule, found)
        assert world.summary(world.now(answer))[1] == "a. 5 IN CNAME old.z."
