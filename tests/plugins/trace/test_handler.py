"""The spans of traced queries, through the plugin chains of a Corefile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from svcdns.plugin_api.deferred import Deferred
from svcdns.plugin_api.query import Query
from svcdns.plugin_api.reply import Reply, rcode_only
from svcdns.plugins.trace import handler
from svcdns.plugins.trace.export import Counts
from svcdns.plugins.trace.options import Collector
from svcdns.plugins.trace.spans import RecordedSpan
from svcdns.wire.codes import Rcode
from tests.support.chains import Chains
from tests.support.world import counted, records


class Kept:
    """An exporter that keeps the traces."""

    def __init__(self, collector: Collector, local: tuple[str, int] | None) -> None:
        self.collector, self.local = collector, local
        self.traces: list[list[RecordedSpan]] = []
        self.counts = Counts()
        MADE.append(self)

    def put(self, spans: list[RecordedSpan]) -> None:
        self.traces.append(spans)

    def take_counts(self) -> Counts:
        found, self.counts = self.counts, Counts()
        return found


MADE: list[Kept] = []


@pytest.fixture(autouse=True)
def _kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(handler, "Exporter", Kept)
    yield
    MADE.clear()


def tree(spans: list[RecordedSpan]) -> str:
    """Returns the names from the first span inwards; each span has at most one child."""
    by_parent = {span.parent_id: span for span in spans}
    found, at = [], next(span for span in spans if span.is_first)
    while True:
        found.append(at.name)
        inner = by_parent.get(at.span_id)
        if inner is None:
            return " ".join(found)
        at = inner


HOSTS = "hosts {\n 10.0.0.1 a.example.org\n fallthrough\n}\nforward . 192.0.2.1"


def test_each_plugin_has_a_span() -> None:
    """The spans are inside each other, in the order of the chain. *prometheus* has a span, as in CoreDNS."""
    chains = Chains(f". {{\ntrace\nerrors\nprometheus\ncache\nloadbalance\n{HOSTS}\n}}")
    chains.ask("A.example.org.")
    (spans,) = MADE[0].traces
    assert tree(spans) == "servedns prometheus errors loadbalance cache hosts"
    (first,) = (span for span in spans if span.is_first)
    assert first.tags == {
        "coredns.io/name": "a.example.org.",
        "coredns.io/type": "A",
        "coredns.io/rcode": "NOERROR",
        "coredns.io/proto": "udp",
        "coredns.io/remote": "10.244.0.1",
    }
    assert all(0 < span.started_at <= span.ended_at for span in spans)
    assert first.span_id == first.of.trace_id
    assert first.of.text == f"{first.span_id:016x}"


def test_a_repeated_query_is_traced() -> None:
    """With `every 1`, the answer table gives no reply. The trace shows the plugin that has the reply."""
    chains = Chains(f". {{\ntrace\ncache\n{HOSTS}\n}}", outside=lambda query: Reply(rcode=3, flags=query.reply_flags))
    for _ in range(4):
        chains.ask("a.example.org.", "A", protocol="tcp")
    assert [tree(spans) for spans in MADE[0].traces] == ["servedns cache hosts"] * 4
    assert chains.hits("tcp") == 0


def test_every_n_th_query_is_traced_and_all_others_use_the_table() -> None:
    """The traced queries are the third, the sixth and so on. The first replies are stored as without *trace*."""
    chains = Chains(f". {{\ntrace {{\n every 3\n}}\n{HOSTS}\n}}")
    for _ in range(12):
        chains.ask("a.example.org.")
    assert len(MADE[0].traces) == 4
    assert chains.hits() == 6, "the first two replies and the traced ones came from the chain"
    chains.ask("a.example.org.", protocol="tcp")
    chains.ask("a.example.org.", protocol="tcp")
    assert len(MADE[0].traces) == 4
    chains.ask("a.example.org.")
    assert len(MADE[0].traces) == 5, "the count is that of the server block"


def test_no_query_is_traced_with_every_0() -> None:
    """`every 0` turns the plugin off."""
    chains = Chains(f". {{\ntrace {{\n every 0\n}}\n{HOSTS}\n}}")
    for _ in range(4):
        chains.ask("a.example.org.")
    assert MADE[0].traces == []
    assert not chains.listener.sampled


def test_only_the_block_with_the_plugin_is_traced() -> None:
    """Queries of other blocks are not counted."""
    chains = Chains(f". {{\n{HOSTS}\n}}\norg {{\ntrace {{\n every 2\n}}\n{HOSTS}\n}}")
    for _ in range(4):
        chains.ask("a.example.org.")
        chains.ask("b.example.net.")
    names = [span.tags["coredns.io/name"] for spans in MADE[0].traces for span in spans if span.is_first]
    assert names == ["a.example.org."] * 2
    assert not chains.send(b"\0" * 12)[12:], "a packet without a name is no query of the block"


def test_a_denial_and_an_error() -> None:
    """The tag has the response code. An error that is logged is in the first span."""
    replies = [rcode_only(Rcode.SERVFAIL, "no healthy proxies"), Reply(rcode=Rcode.NXDOMAIN)]
    chains = Chains(f". {{\ntrace\n{HOSTS}\n}}", outside=lambda _: replies.pop())
    chains.ask("x.example.org.")
    chains.ask("y.example.org.")
    denied, failed = (next(span for span in spans if span.is_first) for spans in MADE[0].traces)
    assert (denied.tags["coredns.io/rcode"], denied.error) == ("NXDOMAIN", "")
    assert (failed.tags["coredns.io/rcode"], failed.error) == ("SERVFAIL", "no healthy proxies")


def test_an_exception_ends_all_spans() -> None:
    """The trace of a query whose plugin raised an exception has the exception's text."""

    def broken(_: Query) -> Reply:
        raise ValueError("of a plugin")

    chains = Chains(f". {{\ntrace\ncache\n{HOSTS}\n}}", outside=broken)
    assert chains.ask("x.example.org.")[3] & 15 == Rcode.SERVFAIL
    (spans,) = MADE[0].traces
    assert tree(spans) == "servedns cache hosts forward"
    assert next(span for span in spans if span.is_first).error == "of a plugin"


def test_a_reply_that_comes_later_ends_its_spans() -> None:
    """The spans of a `Deferred` end when its reply is set."""
    waiting: list[Deferred] = []

    def later(_: Query) -> Deferred:
        waiting.append(Deferred())
        return waiting[-1]

    chains = Chains(". {\ntrace\ncache\nforward . 192.0.2.1\n}", outside=later)
    with pytest.raises(AssertionError, match="later"):
        chains.ask("x.example.org.")
    assert MADE[0].traces == []
    waiting[0].set(Reply(answer=records("x.example.org. 5 IN A 192.0.2.9")))
    (spans,) = MADE[0].traces
    assert tree(spans) == "servedns cache forward"
    assert [span.name for span in spans] == ["forward", "cache", "servedns"]


def test_self_queries_belong_to_the_trace() -> None:
    """The target of an alias is looked up through the server: its spans are inside that of *file* or *template*."""
    text = 'template IN CNAME a.org {\n answer "{{ .Name }} 60 IN CNAME b.example.org."\n}'
    chains = Chains(f". {{\ntrace\nrewrite stop name exact z.org a.example.org\n{text}\n{HOSTS}\n}}")
    chains.ask("z.org.")
    (spans,) = MADE[0].traces
    assert tree(spans) == "servedns rewrite template hosts"
    assert next(s for s in spans if s.is_first).tags["coredns.io/name"] == "z.org.", "the name that the client sent"


def test_views_are_counted_in_the_chain() -> None:
    """On a listener with views, each block counts its own queries, and no reply is stored."""
    view = "view v {\n expr type() == 'A'\n}"
    chains = Chains(f". {{\n{view}\ntrace {{\n every 2\n}}\n{HOSTS}\n}}\n. {{\n{HOSTS}\n}}")
    for _ in range(4):
        chains.ask("a.example.org.", "A")
        chains.ask("a.example.org.", "AAAA")
    assert len(MADE[0].traces) == 2
    assert chains.hits() == 0


def test_the_exporter_stays_at_a_reload() -> None:
    """Blocks with the same collector, and the next configuration, use the same exporter."""
    text = f". {{\ntrace {{\n every 2\n}}\n{HOSTS}\n}}\norg {{\ntrace\n{HOSTS}\n}}"
    chains = Chains(text)
    chains.load(text.replace("every 2", "every 3"))
    assert len(MADE) == 1
    chains.load(text.replace("trace", "trace otlp localhost:1"))
    assert [one.collector.kind for one in MADE] == ["zipkin", "otlp"]


FIELDS = [(b"x-b3-traceid", b"00000000000000aa"), (b"x-b3-spanid", b"00000000000000bb")]


def ask_with_fields(chains: Chains, fields: list[tuple[bytes, bytes]]) -> None:
    """Sends a query as a transport over HTTP does."""
    sampling = chains.responder("tcp").sampling
    assert sampling is not None
    sampling.headers = fields
    chains.ask("a.example.org.", protocol="tcp")


@pytest.mark.parametrize(
    ("option", "span_id", "parent_id"),
    [("", None, 0xBB), ("client_server", 0xBB, 0)],
)
def test_a_span_of_a_client(option: str, span_id: int | None, parent_id: int) -> None:
    """The first span is inside the client's span, or has the same identifier. The next query has no such span."""
    chains = Chains(f". {{\ntrace {{\n {option}\n}}\n{HOSTS}\n}}")
    ask_with_fields(chains, FIELDS)
    chains.ask("a.example.org.", protocol="tcp")
    first, other = (next(span for span in spans if span.is_first) for spans in MADE[0].traces)
    assert (first.of.trace_id, first.of.text, first.parent_id) == (0xAA, "00000000000000aa", parent_id)
    assert first.is_shared == (span_id is not None)
    assert span_id in (None, first.span_id)
    assert other.of.trace_id != 0xAA


def test_a_client_may_decline() -> None:
    """A query whose client asks for no trace is answered without one."""
    chains = Chains(f". {{\ntrace\n{HOSTS}\n}}")
    ask_with_fields(chains, [(b"x-b3-sampled", b"0")])
    assert MADE[0].traces == []
    chains.ask("a.example.org.")
    assert len(MADE[0].traces) == 1


def test_the_metadata_has_the_identifier(caplog: pytest.LogCaptureFixture) -> None:
    """`trace/traceid` is empty for queries that are not traced, also if their reply was stored by a traced one."""
    text = 'log . "id={/trace/traceid};"'
    chains = Chains(f". {{\ntrace {{\n every 2\n}}\nmetadata\n{text}\n{HOSTS}\n}}")
    caplog.set_level("INFO")
    for _ in range(6):
        chains.ask("a.example.org.")
    identifiers = [spans[0].of.text for spans in MADE[0].traces]
    lines = [record.getMessage() for record in caplog.records if "id=" in record.getMessage()]
    assert [line.partition("id=")[2] for line in lines] == [text for one in identifiers for text in ("-;", f"{one};")]


def test_identifiers_of_otlp_have_128_bits() -> None:
    """Zipkin's have 64 bits, as CoreDNS's."""
    chains = Chains(f". {{\ntrace otlp localhost:1\n{HOSTS}\n}}")
    chains.ask("a.example.org.")
    (spans,) = MADE[0].traces
    assert len(spans[0].of.text) == 32
    assert spans[0].of.trace_id >> 64


def test_tags_of_datadog() -> None:
    """Datadog's tags have an at sign, as in CoreDNS. Plugins have spans too."""
    chains = Chains(f". {{\ntrace datadog localhost:1\n{HOSTS}\n}}")
    chains.ask("a.example.org.")
    (spans,) = MADE[0].traces
    assert "coredns.io@rcode" in next(span for span in spans if span.is_first).tags
    assert tree(spans) == "servedns hosts"


def test_numbers_are_added_to_the_metrics() -> None:
    """`tick` adds them. A failure is logged once a minute."""
    chains = Chains(f". {{\ntrace\n{HOSTS}\n}}")
    MADE[0].counts = Counts(exported=7, queue=2, collector=3, failure="refused")
    assert chains.chains is not None
    chains.chains.tick()
    found = counted(chains.counters)
    assert found["svcdns_trace_exported_spans_total",] == 7
    assert found["svcdns_trace_dropped_spans_total", "queue"] == 2
    assert found["svcdns_trace_dropped_spans_total", "collector"] == 3
