"""The plugin `view`: which block answers, and that no client gets the reply of another block (docs/plugins/view.md)."""

from __future__ import annotations

import itertools

import dns.message
import dns.rcode
import pytest

from svcdns.cluster.changes import Gone, Kind
from svcdns.cluster.objects import Pod
from svcdns.plugin_api.expressions import types
from svcdns.plugins.view import View
from tests.support import world
from tests.support.chains import Chains

INSIDE, OUTSIDE, IPV6 = "10.1.0.1", "192.0.2.7", "2001:db8::1"


def block(address: str, *condition: str, zone: str = ".", more: str = "", name: str = "v") -> str:
    """Returns a server block that answers `www.test.` with an address, with a view if there is a condition."""
    view = f" view {name} {{\n" + "".join(f"  expr {one}\n" for one in condition) + " }\n" if condition else ""
    answer = f' template IN A . {{\n  answer "{{{{ .Name }}}} 60 IN A {address}"\n }}\n'
    return f"{zone} {{\n{view}{more}{answer}}}\n"


def ask(server: Chains, client: str, name: str = "www.test.", rtype: str = "A", protocol: str = "udp") -> str:
    """Returns the address in the reply, or the rcode."""
    reply = dns.message.from_wire(server.ask(name, rtype, client, protocol))
    return reply.answer[-1][0].to_text() if reply.answer else dns.rcode.to_text(reply.rcode())


def test_the_first_block_whose_condition_is_true_answers() -> None:
    """Blocks of a zone are tried in the order of the Corefile, cold and from the answer table, in every order of the
    clients.
    """
    corefile = (
        block("1.1.1.1", "incidr(client_ip(), '10.0.0.0/8')")
        + block("2.2.2.2", "incidr(client_ip(), '2001:db8::/32')", name="w")
        + block("3.3.3.3")
    )
    expected = {INSIDE: "1.1.1.1", IPV6: "2.2.2.2", OUTSIDE: "3.3.3.3"}
    for order in itertools.permutations(expected):
        server = Chains(corefile)
        for protocol in ("udp", "tcp"):
            for _ in range(4):
                assert {client: ask(server, client, protocol=protocol) for client in order} == expected
            assert server.hits(protocol) > 0


def test_all_expressions_must_be_true() -> None:
    """An expression that is false, that has no truth value, or that cannot be evaluated keeps a query out."""
    for condition in ("type() == 'AAAA'", "size()", "incidr('x', '10.0.0.0/8')", "[][1]"):
        server = Chains(block("1.1.1.1", "client_ip() != ''", condition) + block("2.2.2.2"))
        assert ask(server, INSIDE) == "2.2.2.2"
    assert ask(Chains(block("1.1.1.1", "client_ip() != ''", "type() == 'A'") + block("2.2.2.2")), INSIDE) == "1.1.1.1"


def test_a_view_without_expressions_admits_every_query() -> None:
    """The block may have the keys of another block nevertheless."""
    server = Chains(
        '. {\n view v\n template IN A . {\n  answer "{{ .Name }} 60 IN A 1.1.1.1"\n }\n}\n' + block("2.2.2.2")
    )
    assert ask(server, INSIDE) == "1.1.1.1"


def test_a_shorter_zone_is_tried_if_no_block_admits_the_query() -> None:
    """Without a block for the query, its zone is skipped. If no zone is left, the query is REFUSED."""
    server = Chains(block("1.1.1.1", "client_ip() == '10.1.0.1'", zone="www.test") + block("2.2.2.2", zone="test"))
    assert [ask(server, client) for client in (INSIDE, OUTSIDE) * 3] == ["1.1.1.1", "2.2.2.2"] * 3
    alone = Chains(block("1.1.1.1", "client_ip() == '10.1.0.1'"))
    assert [ask(alone, client) for client in (INSIDE, OUTSIDE) * 3] == ["1.1.1.1", "REFUSED"] * 3


def test_a_query_for_ds_goes_to_the_parent_zone() -> None:
    """Conditions apply to DS queries, too. The shortest matching zone below the root answers, as in CoreDNS."""
    views = []
    for name, zone in (("a", "www.test"), ("b", "www.test"), ("c", "test")):
        condition = "client_ip() == '10.1.0.1'" if name == "a" else "true"
        head = f"{zone} {{\n view {name} {{\n  expr {condition}\n }}\n"
        views += [head, f' template IN ANY . {{\n  answer "{{{{ .Name }}}} 60 IN TXT {name}"\n }}\n}}\n']
    server = Chains("".join(views))
    assert ask(server, INSIDE, rtype="TXT") == '"a"'
    assert ask(server, OUTSIDE, rtype="TXT") == '"b"'
    assert ask(server, OUTSIDE, rtype="DS") == '"c"'


@pytest.mark.parametrize(
    ("condition", "classes"),
    [
        pytest.param("incidr(client_ip(), '10.0.0.0/8')", 2, id="a network"),
        pytest.param("incidr(client_ip(), '10.0.0.0/8') or incidr(client_ip(), '192.0.2.0/24')", 3, id="two"),
        pytest.param("not incidr(client_ip(), '10.0.0.0/8') && name() != 'x.'", 2, id="with other parts"),
        pytest.param("client_ip() == '10.1.0.1' or do()", 2, id="an address"),
        pytest.param("type() == 'A'", 1, id="nothing of the client"),
        pytest.param("client_ip() startsWith '10.1.'", 4, id="the address in another way"),
        pytest.param("\"any(['10.0.0.0/8'], incidr(client_ip(), #))\"", 4, id="a network that is computed"),
        pytest.param("client_ip() == '10.1.0.' + '1'", 4, id="an address that is computed"),
        pytest.param("incidr(client_ip(), 'x')", 1, id="no network"),
        pytest.param("metadata('view/name') == 'v'", 1, id="no metadata"),
    ],
)
def test_client_classes(condition: str, classes: int) -> None:
    """Clients are in one class if the condition cannot tell them apart."""
    options = world.options("view", f"view v {{\n expr {condition}\n}}")
    plugin = View(options, world.environment())
    found = {plugin.client_class(client) for client in (INSIDE, OUTSIDE, IPV6, "203.0.113.9")}
    assert len(found) == classes


def test_clients_of_one_class_share_stored_replies() -> None:
    """A reply that one client caused answers another client of the same network from the answer table."""
    server = Chains(block("1.1.1.1", "incidr(client_ip(), '10.0.0.0/8')") + block("2.2.2.2"))
    for _ in range(2):
        ask(server, INSIDE)
    assert server.hits() == 0
    assert ask(server, "10.9.9.9") == "1.1.1.1"
    assert server.hits() == 1


@pytest.mark.parametrize("call", ["id() != 77", "port() != '1'", "server_ip() != ''"])
def test_conditions_on_what_equal_packets_need_not_share(call: str) -> None:
    """If a condition reads the message id, the port, or the address of a socket of all addresses, nothing is stored."""
    server = Chains(block("1.1.1.1", call) + block("2.2.2.2"))
    for _ in range(5):
        assert ask(server, INSIDE) == "1.1.1.1"
    assert server.hits() == 0


def test_an_alias_into_a_zone_with_views() -> None:
    """The reply of a block without a view, for which it asked a block with a view, is not given to other clients."""
    alias = 'alias.test {\n cache 30\n template IN A . {\n  answer "{{ .Name }} 60 IN CNAME www.test."\n }\n}\n'
    corefile = (
        block("1.1.1.1", "incidr(client_ip(), '10.0.0.0/8')", zone="www.test")
        + block("2.2.2.2", zone="www.test")
        + alias
    )
    for order in ((INSIDE, OUTSIDE), (OUTSIDE, INSIDE)):
        server = Chains(corefile)
        for _ in range(5):
            found = {client: ask(server, client, "a.alias.test.") for client in order}
            assert found == {INSIDE: "1.1.1.1", OUTSIDE: "2.2.2.2"}


def test_caches_of_two_views() -> None:
    """Blocks with the same zone have caches of their own, also if their views have the same name."""

    def answer(address: str, condition: str) -> str:
        return f". {{\n view same {{\n  expr {condition}\n }}\n cache 30\n hosts {{\n  {address} www.test\n }}\n}}\n"

    server = Chains(
        answer("1.1.1.1", "incidr(client_ip(), '10.0.0.0/8')")
        + answer("2.2.2.2", "incidr(client_ip(), '192.0.2.0/24')")
    )
    for _ in range(4):
        assert [ask(server, INSIDE), ask(server, OUTSIDE)] == ["1.1.1.1", "2.2.2.2"]


def test_views_by_the_namespace_of_a_pod() -> None:
    """With *metadata*, a condition can use the namespace of the client's Pod. No stored reply outlives a change."""
    cluster = "cluster.local {\n kubernetes {\n  pods verified\n }\n}\n"
    condition = "metadata('kubernetes/client-namespace') == 'a'"
    more = " metadata\n kubernetes cluster.local {\n  pods verified\n }\n"
    server = Chains(
        block("1.1.1.1", condition, zone="test", more=more) + block("2.2.2.2", zone="test") + cluster,
        [Pod("a", "one", INSIDE), Pod("b", "two", "10.1.0.2")],
    )
    for _ in range(4):
        assert [ask(server, client) for client in (INSIDE, "10.1.0.2", OUTSIDE)] == ["1.1.1.1", "2.2.2.2", "2.2.2.2"]
    assert server.hits() > 0
    server.apply(Gone(Kind.POD, "a", "one"), Pod("b", "one", INSIDE))
    assert [ask(server, INSIDE) for _ in range(4)] == ["2.2.2.2"] * 4
    server.apply(Gone(Kind.POD, "b", "two"), Pod("a", "two", "10.1.0.2"))
    assert [ask(server, "10.1.0.2") for _ in range(4)] == ["1.1.1.1"] * 4


def test_metadata_of_a_block_without_metadata() -> None:
    """Without *metadata* in the block, labels are empty, also if a block that was tried before has it."""
    first = block("1.1.1.1", "metadata('view/name') == 'no'", more=" metadata\n", name="first")
    second = block("2.2.2.2", "metadata('view/name') == ''", name="second")
    assert ask(Chains(first + second), INSIDE) == "2.2.2.2"


def test_the_name_of_the_view_is_in_the_metrics() -> None:
    """The metrics of queries and of plugins have the label `view`."""
    server = Chains(block("1.1.1.1", "true", more=" prometheus\n", name="mine") + block("2.2.2.2"))
    for _ in range(3):
        ask(server, INSIDE)
    server.flush()
    counted = world.counted(server.counters)
    assert counted["coredns_dns_requests_total", "dns://:53", ".", "mine", "udp", "1", "A"] == 3
    assert counted["coredns_template_matches_total", "dns://:53", ".", "mine", "IN", "A"] == 3


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("view", "2:1 Wrong argument count", id="no name"),
        pytest.param("view a b", "2:8 Wrong argument count", id="two names"),
        pytest.param("view a\nview b", "3:1 plugin/view: this plugin can only be used once per Server Block", id="two"),
        pytest.param("view a {\n foo bar\n}", "3:2 unknown property 'foo'", id="unknown option"),
        pytest.param(
            "view a {\n expr invalid expression\n}", "3:7 plugin/view: unknown name invalid", id="unknown name"
        ),
        pytest.param("view a {\n expr\n}", "3:2 plugin/view: a value was expected", id="no expression"),
        pytest.param("view a {\n expr name() == 1\n}", "3:7 plugin/view: invalid operation: ==", id="types"),
        pytest.param("view a {\n expr group('a') == 'b'\n}", "3:7 plugin/view: unknown name group", id="of template"),
    ],
)
def test_rejected_directives(text: str, error: str) -> None:
    """Each invalid directive is an error with the position of the word at fault."""
    assert world.rejection("view", text).startswith(error)


def test_an_expression_that_is_never_true_is_a_warning() -> None:
    """CoreDNS starts with such an expression, and the block answers no query."""
    options = world.options("view", "view a {\n expr name()\n expr do()\n}")
    assert options.warnings == ("Corefile:3:2 - 'name()' is never true, so that the block answers no query",)
    assert [one.kind for one in options.expressions] == [types.STRING, types.BOOL]
