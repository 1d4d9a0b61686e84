"""The plugin `metadata`, and the plugins that read metadata (docs/plugins/metadata.md)."""

from __future__ import annotations

import logging

import dns.message
import pytest

from svcdns.cluster.objects import Pod
from svcdns.plugin_api.query import Answer, Query
from svcdns.plugin_api.reply import Reply
from svcdns.plugins.metadata import Options
from tests.support import world
from tests.support.chains import Chains

CLIENT = "10.244.0.1"
CLUSTER = "kubernetes cluster.local {\n pods verified\n fallthrough\n}\n"
POD = Pod("tenant-a", "web-0", CLIENT)
TEXT = 'template IN TXT . {{\n answer "{{{{ .Name }}}} 60 IN TXT \\"{{{{ .Meta \\"{label}\\" }}}}\\""\n}}\n'


def text_of(server: Chains, name: str = "x.test.", client: str = CLIENT) -> str:
    """Returns the text of a TXT answer."""
    text: str = dns.message.from_wire(server.ask(name, "TXT", client)).answer[0][0].to_text()
    return text


def template(label: str) -> str:
    """Returns a directive that answers TXT with the metadata under a label."""
    return TEXT.format(label=label)


def test_templates_read_metadata() -> None:
    """A reply with metadata is for its client alone."""
    server = Chains(f". {{\n metadata\n {CLUSTER} {template('kubernetes/client-namespace')}}}\n", [POD])
    for _ in range(4):
        assert text_of(server) == '"tenant-a"'
        assert text_of(server, client="10.244.0.9") == '""'
    assert server.hits() == 0


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        pytest.param("", '""', id="without the directive"),
        pytest.param("metadata", '"tenant-a"', id="for the zones of the block"),
        pytest.param("metadata test", '"tenant-a"', id="for a zone with the name"),
        pytest.param("metadata example.org", '""', id="for other zones"),
        pytest.param("metadata test\nmetadata example.org", '""', id="the last one counts"),
    ],
)
def test_which_queries_have_metadata(metadata: str, expected: str) -> None:
    """Metadata exist only with the directive, and for names in its zones."""
    server = Chains(f". {{\n {metadata}\n {CLUSTER} {template('kubernetes/client-namespace')}}}\n", [POD])
    assert text_of(server) == expected


def test_rewritten_queries_have_the_metadata_of_the_original() -> None:
    """Metadata are those of the query as the client sent it."""
    rewrite = "rewrite name x.test web.d.svc.cluster.local\n"
    server = Chains(f". {{\n metadata\n {rewrite} {template('kubernetes/service')} {CLUSTER}}}\n", [POD])
    assert text_of(server) == '""'
    back = "rewrite name web.d.svc.cluster.local x.test\n"
    server = Chains(f". {{\n metadata\n {back} {template('kubernetes/service')} {CLUSTER}}}\n", [POD])
    assert text_of(server, "web.d.svc.cluster.local.") == '"web"'


def test_rewrite_puts_metadata_into_an_option() -> None:
    """A label in braces gives the option its data. Without data the rule does not apply, as in CoreDNS."""
    found: list[tuple[tuple[int, bytes], ...]] = []

    def outside(query: Query) -> Answer:
        found.append(() if query.edns is None else query.edns.options)
        return Reply()

    rules = "rewrite edns0 local set 0xffee {kubernetes/client-pod-name}"
    corefile = f". {{\n metadata\n {rules}\n {CLUSTER} forward . 192.0.2.1\n}}\n"
    server = Chains(corefile, [POD], outside)
    server.ask("x.test.", "A", CLIENT)
    server.ask("x.test.", "A", "10.244.0.9")
    assert found == [((0xFFEE, b"web-0"),), ()]


def test_log_lines_have_metadata(caplog: pytest.LogCaptureFixture) -> None:
    """Each line has the metadata of its own client, also for replies from the answer table."""
    caplog.set_level(logging.INFO, "svcdns")
    line = '"{remote} {/kubernetes/client-pod-name} {/log/class} {/log/type} {/forward/upstream} {/x/y}"'
    server = Chains(f". {{\n metadata\n log . {line}\n {CLUSTER} hosts {{\n  1.1.1.1 a.test\n }}\n}}\n", [POD])
    for _ in range(3):
        server.ask("a.test.", "A", CLIENT)
        server.ask("a.test.", "A", "10.244.0.9")
    assert server.hits() == 4
    expected = [f"{CLIENT} web-0 success NOERROR - -", "10.244.0.9 - success NOERROR - -"] * 3
    assert [record.getMessage() for record in caplog.records if record.name == "svcdns"] == expected


def test_reads_options() -> None:
    """Zones are arguments; words that are no zones cause a warning."""
    assert world.options("metadata", "metadata a.org") == Options(("a.org.",))
    (line,) = world.options("metadata", "metadata a..org b.org").warnings
    assert "'a..org' is not a zone and is ignored" in line
    assert world.rejection("metadata", "metadata {\n x\n}").startswith("2:1 plugin/metadata: no block in braces")
