"""Rules for the whole project: pages, tests, metrics and imports."""

from __future__ import annotations

import ast
import graphlib
import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest

import svcdns
from svcdns.chain.plan import plan
from svcdns.control.metrics import Processes
from svcdns.corefile import arguments
from svcdns.corefile.blocks import Directive
from svcdns.corefile.directives import check_directives
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.parser import parse
from svcdns.plugin_api.contract import check_plugin
from svcdns.plugins import BUILT, ORDER
from svcdns.telemetry.counters import Family
from tests.support import world

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "svcdns").rglob("*.py")
)
SECTIONS = ("Name", "Description", "Syntax", "Examples", "Metrics", "Ready", "Limits")
REQUIRED = SECTIONS[:4]

# Modules whose tests are those of another: what they hold has no behaviour of its own, or shows only through the one
# named.
TESTED_BY = {
    "svcdns.accelerator.metrics": "tests/accelerator/test_owner.py",
    "svcdns.chain.tracing": "tests/plugins/trace/test_handler.py",
    "svcdns.plugin_api.tracing": "tests/plugins/trace/test_handler.py",
    "svcdns.plugins.trace.collector_http": "tests/plugins/trace/test_export.py",
    "svcdns.plugins.trace.datadog": "tests/plugins/trace/test_export.py",
    "svcdns.plugins.trace.otlp": "tests/plugins/trace/test_export.py",
    "svcdns.plugins.trace.send": "tests/plugins/trace/test_export.py",
    "svcdns.plugins.trace.spans": "tests/plugins/trace/test_export.py",
    "svcdns.plugins.trace.zipkin": "tests/plugins/trace/test_export.py",
    "svcdns.plugins.tls.acme.account_key": "tests/plugins/tls/acme/test_client.py",
    "svcdns.plugins.tls.acme.certificate": "tests/plugins/tls/acme/test_client.py",
    "svcdns.plugins.tls.acme.errors": "tests/plugins/tls/acme/test_client.py",
    "svcdns.plugins.tls.acme.http": "tests/plugins/tls/acme/test_client.py",
    "svcdns.plugins.tls.acme.messages": "tests/plugins/tls/acme/test_client.py",
    "svcdns.plugins.tls.acme.data": "tests/plugins/tls/acme/test_manager.py",
    "svcdns.plugins.tls.served": "tests/plugins/tls/test_files.py",
    "svcdns.chain.taps": "tests/plugins/dnstap/test_handler.py",
    "svcdns.plugin_api.tap": "tests/plugins/dnstap/test_handler.py",
    "svcdns.plugins.dnstap.connecting": "tests/plugins/dnstap/test_data.py",
    "svcdns.plugins.dnstap.metrics": "tests/plugins/dnstap/test_writer.py",
    "svcdns.plugins.dnstap.taps": "tests/plugins/dnstap/test_handler.py",
    "svcdns.serving.tapping": "tests/plugins/dnstap/test_handler.py",
    "svcdns.plugins.grpc.metrics": "tests/plugins/grpc/test_handler.py",
    "svcdns.plugins.grpc.upstream": "tests/plugins/grpc/test_handler.py",
    "svcdns.control.server_state": "tests/cli/test_running_state.py",
    "svcdns.worker.inspected": "tests/worker/test_calls.py",
    "svcdns.control.html_tables": "tests/control/test_status_html.py",
    "svcdns.control.traffic_html": "tests/control/test_status_html.py",
    "svcdns.control.tool_pages": "tests/integration/test_status_page.py",
    "svcdns.control.admin_pages": "tests/control/test_status.py",
    "svcdns.control.metric_sums": "tests/control/test_metrics.py",
    "svcdns.control.reload_log": "tests/control/test_status.py",
    "svcdns.feed.tool_messages": "tests/worker/test_calls.py",
    "svcdns.plugins.nomad.client": "tests/plugins/nomad/test_handler.py",
    "svcdns.plugins.nomad.errors": "tests/plugins/nomad/test_handler.py",
    "svcdns.plugins.nomad.files": "tests/integration/test_nomad.py",
    "svcdns.plugins.nomad.metrics": "tests/plugins/nomad/test_handler.py",
    "svcdns.plugins.sign.state": "tests/plugins/sign/test_watcher.py",
    "svcdns.plugins.etcd.client": "tests/integration/test_etcd.py",
    "svcdns.plugins.etcd.lookup": "tests/plugins/etcd/test_records.py",
    "svcdns.plugins.etcd.metrics": "tests/plugins/etcd/test_handler.py",
    "svcdns.dnssec.errors": "tests/dnssec/test_keys.py",
    "svcdns.zones.hosted_zone_options": "tests/plugins/route53/test_options.py",
    "svcdns.zones.hosted_zones": "tests/zones/test_hosted_zone_refresh.py",
    "svcdns.plugins.dnssec.metrics": "tests/plugins/dnssec/test_handler.py",
    "svcdns.plugin_api.tsig": "tests/plugins/tsig/test_handler.py",
    "svcdns.serving.signed_queries": "tests/plugins/tsig/test_handler.py",
    "svcdns.serving.encrypted_listeners": "tests/serving/transport/test_http2.py",
    "svcdns.serving.listening_sockets": "tests/serving/test_listeners.py",
    "svcdns.serving.transport.certificates": "tests/serving/transport/test_tls.py",
    "svcdns.serving.transport.encrypted": "tests/serving/transport/test_http2.py",
    "svcdns.serving.transport.https": "tests/serving/transport/test_http1.py",
    "svcdns.serving.transport.stream_connection": "tests/serving/transport/test_http2.py",
    "svcdns.probe.errors": "tests/probe/test_programming.py",
    "svcdns.probe.run": "tests/cli/test_probe.py",
    "svcdns.shadow.errors": "tests/shadow/test_queries.py",
    "svcdns.cli.offline_server": "tests/cli/test_query.py",
    "svcdns.cli.types": "tests/cli/test_query.py",
    "svcdns.inspection.offline": "tests/inspection/test_explanation.py",
    "svcdns.inspection.cluster_objects": "tests/inspection/test_explanation.py",
    "svcdns.inspection.cluster_reasons": "tests/inspection/test_explanation.py",
    "svcdns.inspection.reasons": "tests/inspection/test_explanation.py",
    "svcdns.cli.top_lists": "tests/cli/test_top_text.py",
    "svcdns.cli.errors": "tests/cli/test_check.py",
    "svcdns.inspection.rules.caching": "tests/inspection/rules/test_rules.py",
    "svcdns.inspection.rules.files": "tests/inspection/rules/test_rules.py",
    "svcdns.inspection.rules.listeners": "tests/inspection/rules/test_rules.py",
    "svcdns.inspection.rules.loops": "tests/inspection/rules/test_rules.py",
    "svcdns.inspection.rules.patterns": "tests/inspection/rules/test_rules.py",
    "svcdns.inspection.rules.signatures": "tests/inspection/rules/test_rules.py",
    "svcdns.inspection.rules.reachability": "tests/inspection/rules/test_rules.py",
    "svcdns.serving.pending_reply": "tests/serving/test_responder.py",
    "svcdns.serving.stored_replies": "tests/serving/test_responder.py",
    "svcdns.serving.rotations": "tests/serving/test_responder.py",
    "svcdns.plugins.cache.cold_path": "tests/serving/test_cold_path.py",
    "svcdns.plugins.kubernetes.cold_path": "tests/serving/test_cold_path.py",
    "svcdns": "tests/cli/test_serve.py",
    "svcdns.__main__": "tests/end_to_end/test_serving.py",
    "svcdns.plugin_api.errors": "tests/plugin_api/test_contract.py",
    "svcdns.plugin_api.settings": "tests/chain/test_build.py",
    "svcdns.plugin_api.environment": "tests/worker/test_worker.py",
    "svcdns.plugin_api.visibility": "tests/plugins/test_visibility.py",
    "svcdns.plugin_api.query": "tests/chain/test_routing.py",
    "svcdns.cli.handover": "tests/cli/test_preflight.py",
    "svcdns.cluster.addresses": "tests/plugins/kubernetes/test_handler.py",
    "svcdns.cluster.changes": "tests/feed/test_frames.py",
    "svcdns.cluster.objects": "tests/cluster/test_index.py",
    "svcdns.sources.api.client": "tests/sources/api/test_source.py",
    "svcdns.sources.change_source": "tests/control/test_cluster_views.py",
    "svcdns.sources.manifests.errors": "tests/sources/manifests/test_documents.py",
    "svcdns.sources.manifests.schemas": "tests/sources/manifests/test_kinds.py",
    "svcdns.sources.api.resources": "tests/sources/api/test_source.py",
    "svcdns.sources.api.reflector": "tests/sources/api/test_source.py",
    "svcdns.conformance.check": "tests/conformance/test_runner.py",
    "svcdns.conformance.outcome": "tests/conformance/test_runner.py",
    "svcdns.conformance.checks.changes": "tests/conformance/test_checks.py",
    "svcdns.conformance.checks.edns": "tests/conformance/test_checks.py",
    "svcdns.conformance.checks.existence": "tests/conformance/test_checks.py",
    "svcdns.conformance.checks.headless": "tests/conformance/test_checks.py",
    "svcdns.conformance.checks.isc": "tests/conformance/test_checks.py",
    "svcdns.conformance.checks.messages": "tests/conformance/test_checks.py",
    "svcdns.conformance.checks.records": "tests/conformance/test_checks.py",
    "svcdns.conformance.checks.search": "tests/conformance/test_checks.py",
    "svcdns.conformance.checks.selection": "tests/conformance/test_checks.py",
    "svcdns.conformance.checks.transport": "tests/conformance/test_checks.py",
    "svcdns.conformance.errors": "tests/conformance/test_lab.py",
    "svcdns.conformance.examiner": "tests/conformance/test_checks.py",
    "svcdns.conformance.expected": "tests/conformance/test_cluster_model.py",
    "svcdns.control.__main__": "tests/end_to_end/test_serving.py",
    "svcdns.control.program": "tests/end_to_end/test_serving.py",
    "svcdns.control.info_metrics": "tests/end_to_end/test_serving.py",
    "svcdns.corefile.blocks": "tests/corefile/test_parser.py",
    "svcdns.corefile.errors": "tests/corefile/test_arguments.py",
    "svcdns.corefile.lexer": "tests/corefile/test_parser.py",
    "svcdns.errors": "tests/corefile/test_arguments.py",
    "svcdns.plugins": "tests/test_project_shape.py",
    "svcdns.plugins.cache.lookup": "tests/plugins/cache/test_handler.py",
    "svcdns.plugins.cache.metrics": "tests/plugins/cache/test_handler.py",
    "svcdns.zones.content": "tests/plugins/file/test_zone_files.py",
    "svcdns.zones.lookup": "tests/plugins/file/test_handler.py",
    "svcdns.zones.metrics": "tests/plugins/file/test_handler.py",
    "svcdns.zones.zone": "tests/plugins/file/test_handler.py",
    "svcdns.zones.zone_files": "tests/plugins/file/test_zone_files.py",
    "svcdns.zones.zone_set": "tests/plugins/file/test_handler.py",
    "svcdns.plugins.auto.zone_list": "tests/plugins/auto/test_directory.py",
    "svcdns.plugins.forward.group_builder": "tests/plugins/forward/test_handler.py",
    "svcdns.plugins.forward.upstream_group": "tests/plugins/forward/test_exchange.py",
    "svcdns.plugins.forward.upstream_addresses": "tests/plugins/forward/test_options.py",
    "svcdns.plugins.hosts.table": "tests/plugins/hosts/test_handler.py",
    "svcdns.plugins.kubernetes.addresses": "tests/plugins/kubernetes/test_handler.py",
    "svcdns.plugins.k8s_external.lookup": "tests/plugins/k8s_external/test_handler.py",
    "svcdns.plugins.k8s_external.records": "tests/plugins/k8s_external/test_handler.py",
    "svcdns.plugins.kubernetes.apex": "tests/plugins/kubernetes/test_handler.py",
    "svcdns.plugins.kubernetes.lookup": "tests/plugins/kubernetes/test_handler.py",
    "svcdns.plugins.kubernetes.metrics": "tests/control/test_cluster_views.py",
    "svcdns.plugins.kubernetes.reverse": "tests/plugins/kubernetes/test_handler.py",
    "svcdns.plugins.kubernetes.records": "tests/plugins/kubernetes/test_handler.py",
    "svcdns.plugins.kubernetes.zone_query": "tests/plugins/kubernetes/test_handler.py",
    "svcdns.plugins.rewrite.reply_draft": "tests/plugins/rewrite/test_handler.py",
    "svcdns.plugins.rewrite.response_rules": "tests/plugins/rewrite/test_handler.py",
    "svcdns.plugins.rewrite.query_rules": "tests/plugins/rewrite/test_handler.py",
    "svcdns.plugin_api.expressions.errors": "tests/plugin_api/expressions/test_parser.py",
    "svcdns.plugin_api.expressions.operators": "tests/plugin_api/expressions/test_parser.py",
    "svcdns.plugins.template.data": "tests/plugins/template/test_handler.py",
    "svcdns.plugins.template.metrics": "tests/plugins/template/test_handler.py",
    "svcdns.plugins.template.go_template.nodes": "tests/plugins/template/go_template/test_parser.py",
    "svcdns.plugins.template.go_template.operands": "tests/plugins/template/go_template/test_parser.py",
    "svcdns.worker.__main__": "tests/end_to_end/test_serving.py",
    "svcdns.serving.__main__": "tests/process/test_isolated.py",
    "svcdns.supervisor.__main__": "tests/end_to_end/test_upgrade.py",
    "svcdns.eventloop.clock": "tests/upstream/test_server.py",
    "svcdns.tls.errors": "tests/tls/test_material.py",
    "svcdns.wire.codes": "tests/wire/test_message.py",
    "svcdns.wire.zone_words": "tests/wire/test_zone_text.py",
    "svcdns.wire.record": "tests/wire/test_message.py",
    "svcdns.plugin_api.closest_encloser": "tests/serving/test_negative_answers.py",
    "svcdns.plugin_api.timeouts": "tests/plugins/test_timeouts.py",
    "svcdns.wire.errors": "tests/wire/test_request.py",
    "svcdns.plugin_api.reply": "tests/wire/test_message.py",
    "svcdns.plugin_api.rate_limit": "tests/serving/test_rate_limits.py",
    "svcdns.testing.server": "tests/testing/test_contract.py",
}


def examples(page: Path) -> list[str]:
    """Returns the Corefile examples of a page."""
    return re.findall(r"^```corefile\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def sections(page: Path) -> list[str]:
    return re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)


def load(name: str) -> ModuleType:
    return importlib.import_module(BUILT[name])


def rows_of_metrics() -> set[str]:
    """Returns a row of `docs/metrics.md` for each metric that modules declare, and for the standard metrics of
    processes.
    """
    rows = set()
    for metric in Processes().collect():
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        rows.add(f"| `{name}` | {metric.type} | | {metric.documentation} |")
    for name in MODULES:
        if not name.endswith("__main__"):
            found = [value for value in vars(importlib.import_module(name)).values() if isinstance(value, Family)]
            rows |= {
                f"| `{one.name}` | {one.kind.name.lower()} | {', '.join(one.labels)} | {one.help} |" for one in found
            }
    return {row.replace("|  |", "| |") for row in rows}


@pytest.mark.parametrize("name", sorted(BUILT))
def test_a_plugin_has_its_parts(name: str) -> None:
    """The parts are options, `parse`, a class with its name, tests, and a place in the order."""
    module = load(name)
    assert name in ORDER
    assert inspect.isclass(module.Options)
    assert list(inspect.signature(module.parse).parameters) == ["block"]
    check_plugin(module.PLUGIN)
    assert module.PLUGIN.name == name
    if not module.PLUGIN.configures_only:
        assert list(inspect.signature(module.PLUGIN.handle).parameters) == ["self", "query", "following"]
    assert hasattr(module, "period") == callable(getattr(module, "refresh", None)), (
        "a plugin that reads its files again has both"
    )
    tests = ROOT / "tests" / "plugins"
    assert (tests / f"test_{name}.py").exists() or list((tests / name).glob("test_*.py"))


@pytest.mark.parametrize("name", [*sorted(BUILT), "import"])
def test_a_plugin_has_its_page(name: str) -> None:
    page = ROOT / "docs" / "plugins" / f"{name}.md"
    found = sections(page)
    assert found[:4] == list(REQUIRED)
    assert found == [section for section in SECTIONS if section in found]
    assert page.read_text().startswith(f"# {name}\n")
    assert examples(page)


@pytest.mark.parametrize(
    "directive",
    [
        "auto",
        "azure",
        "bind 127.0.0.1",
        "cache",
        "clouddns",
        "dns64",
        "erratic",
        "errors",
        "etcd",
        "file z",
        "forward . 192.0.2.1",
        "header",
        "health",
        "geoip d",
        "grpc . 192.0.2.1",
        "hosts {\n fallthrough",
        "k8s_external",
        "kubernetes",
        "loadbalance",
        "loadbalance weighted f",
        "local",
        "log",
        "prometheus",
        "proxyproto",
        "ready",
        "route53",
        "rrl",
        "secondary",
        "template IN A",
        "timeouts",
        "tls",
        "tls c k",
        "transfer",
        "view x",
        "visibility",
    ],
)
def test_the_page_has_the_options_of_the_code(directive: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known: set[str] = set()

    def unknown_option(line: Directive, names: Iterable[str]) -> CorefileError:
        known.update(names)
        return CorefileError(line.position, "unknown")

    monkeypatch.setattr(arguments, "unknown_option", unknown_option)
    name, _, _ = directive.partition(" ")
    if name in ("k8s_external", "visibility"):
        directive = f"kubernetes\n{name}"
    brace = "" if "{" in directive else "{"
    with pytest.raises(CorefileError):
        world.options(name, f"{directive} {brace}\n no_such_option x\n}}")
    page = (ROOT / "docs" / "plugins" / f"{name}.md").read_text()
    assert {option for option in known if not re.search(rf"\b{option}\b", page)} == set()
    syntax = page.partition("## Syntax\n")[2].partition("\n## ")[0]
    shown = set()
    part = {"loadbalance weighted f": "weighted", "tls": "acme", "tls c k": "CERT"}.get(directive, "")
    for block in re.findall(r"^```\n(.*?)^```", syntax, re.MULTILINE | re.DOTALL):
        if part in block:
            shown |= {
                word for line in re.findall(r"^ {4}([a-z0-9_|-]+)", block, re.MULTILINE) for word in line.split("|")
            }
    assert shown <= known or directive == "loadbalance", shown - known


def test_there_is_no_page_without_a_plugin() -> None:
    assert {page.stem for page in (ROOT / "docs" / "plugins").glob("*.md")} == set(BUILT) | {"import", "README"}


PAGES = [page for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")] if examples(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_example_can_be_served(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each Corefile example of a page is parsed, and its options are known."""
    monkeypatch.chdir(ROOT)
    for text in examples(page):
        corefile = parse(text, "Corefile", environ={})
        check_directives(corefile, (*ORDER, "import"), BUILT)
        assert plan(corefile, ORDER, load)


def test_the_page_of_metrics_agrees_with_the_code() -> None:
    """`docs/metrics.md` has one row for each metric, with its type, labels and help text."""
    text = (ROOT / "docs" / "metrics.md").read_text()
    documented = {row.replace("|  |", "| |") for row in re.findall(r"^\| `\w+` \|.*$", text, re.MULTILINE)}
    assert sorted(documented - rows_of_metrics()) == [], "rows of docs/metrics.md that no metric has"
    assert sorted(rows_of_metrics() - documented) == [], "rows that docs/metrics.md lacks"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_tests(name: str) -> None:
    *folders, last = name.split(".")[1:] or [""]
    mirrored = ROOT.joinpath("tests", *folders, f"test_{last}.py")
    package = ROOT.joinpath(*name.split("."))
    if package.is_dir() and not (package / "__init__.py").read_text().strip():
        return
    if name in TESTED_BY:
        assert not mirrored.exists(), "it has tests of its own: take it out of TESTED_BY"
        assert (ROOT / TESTED_BY[name]).exists()
    else:
        assert mirrored.exists() or package.is_dir(), f"{mirrored.relative_to(ROOT)} is missing"


@pytest.mark.slow
@pytest.mark.timeout(900)  # about 30 s of CPU time in one process, which is minutes on a busy machine
def test_modules_import_alone() -> None:
    """Each module can be imported first. The import only defines things."""
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    before = set(sys.modules)\n"
        "    importlib.import_module(name)\n"
        "    for new in [m for m in sys.modules if m.split('.')[0] == 'svcdns']:\n"
        "        del sys.modules[new]\n"
    )
    names = [name for name in MODULES if not name.endswith("__main__")]
    done = subprocess.run(
        [sys.executable, "-c", program, *names], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def imported(path: Path, known: set[str]) -> set[str]:
    """Returns the modules among `known` that a file imports anywhere in its text."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & known or {str(node.module)}
    return found & known


@pytest.mark.slow
def test_there_is_no_import_circle() -> None:
    """Tests may import bench, and both may import svcdns, but not the reverse."""
    paths = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for top in ("svcdns", "bench", "tests")
        for path in (ROOT / top).rglob("*.py")
    }
    graph = {name: imported(path, set(paths)) - {name} for name, path in paths.items()}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    below = {"svcdns": {"svcdns"}, "bench": {"svcdns", "bench"}, "tests": {"svcdns", "bench", "tests"}}
    for name, others in graph.items():
        assert {other.split(".")[0] for other in others} <= below[name.split(".")[0]], name


PLUGINS_OF_WORKERS = (
    "kubernetes",
    "file",
    "etcd",
    "nomad",
    "forward",
    "tls",
    "https",
    "route53",
    "sign",
    "trace",
    "clouddns",
    "azure",
)


def test_workers_do_not_import_libraries_of_control() -> None:
    """The Kubernetes client, the parsers of YAML and zones, and the libraries of transports would cost memory."""
    plugins = ", ".join(f"svcdns.plugins.{name}" for name in PLUGINS_OF_WORKERS)
    program = f"import svcdns.worker.__main__, {plugins}, sys"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; print(*sys.modules)"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    controls = {
        "kubernetes",
        "aiohttp",
        "yaml",
        "watchfiles",
        "psutil",
        "prometheus_client",
        "dns",
        "dnslib",
        "maxminddb",
        "grpclib",
        "h2",
        "h11",
        "aioquic",
        "OpenSSL",
        "cryptography",
        "azure",
        "botocore",
        "google",
        "requests",
        "svcdns.wire.zone_text",
        "svcdns.wire.frame_streams",
        "svcdns.plugins.forward.tapped_exchange",
        "opentelemetry",
        "http.client",
        "svcdns.accelerator",
    }
    assert not controls & set(done.stdout.split())


def test_control_does_without_an_http_library() -> None:
    """Control has its own HTTP server and client. A library would cost memory, and time at a start."""
    program = (
        "import svcdns.control.program, svcdns.sources.api.reflector, svcdns.plugins.tls, sys; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    late = {
        "aiohttp",
        "cryptography",
        "http.client",
        "urllib.request",
        "email.message",
        "kubernetes",
        "prometheus_client",
        "yaml",
        "grpclib",
        "h2",
    }
    assert not late & set(done.stdout.split())


def test_every_module_has_a_docstring() -> None:
    for name in MODULES:
        path = ROOT.joinpath(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        text = path.read_text().strip()
        assert not text or text.startswith('"""'), name


def test_repository_texts_name_no_machine() -> None:
    """No tracked text has this checkout's path or the address of a package index."""
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False).stdout.split()
    for name in tracked or [str(path.relative_to(ROOT)) for path in ROOT.glob("*.*")]:
        path = ROOT / name
        if path.suffix in (".md", ".toml", ".lock", ".in", ".py", ".yaml", "") and path.is_file():
            text = path.read_text()
            assert str(ROOT) + os.sep not in text, name
            assert "--index-url" not in text or path.name in ("test_project_shape.py", "Makefile"), name
    assert svcdns.__version__


def test_the_supervisor_imports_no_client_or_parser() -> None:
    program = "import sys; import svcdns.supervisor.__main__, svcdns.supervisor.process; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    ours = {name for name in loaded if name.split(".")[0] == "svcdns" and not name.startswith("svcdns.supervisor")}
    parts = {
        f"svcdns.process.{name}"
        for name in (
            "channel",
            "cookie_secrets",
            "core_dumps",
            "isolated",
            "parent_death",
            "quick_exit",
            "sample_memory",
            "shared_memory",
        )
    }
    assert ours == {"svcdns", "svcdns.log_line", "svcdns.process", *parts}
    assert not loaded & {
        "asyncio",
        "configparser",
        "email",
        "http",
        "pickle",
        "ssl",
        "tomllib",
        "urllib.request",
        "xml",
        "yaml",
    }


@pytest.mark.parametrize("name", MODULES)
def test_no_message_points_at_a_file_of_the_repository(name: str) -> None:
    """A container has no `docs/`. A log line or an error says itself what to do, or has the title of a page."""
    path = ROOT / Path(*name.split("."))
    tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    messages = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts
    ]
    assert [text for text in messages if re.search(r"\bdocs/|\.md\b", text)] == []


def test_the_build_context_of_the_image_has_what_the_dockerfile_copies() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    copied = {word for line in copies for word in line.split()}
    assert {"requirements.lock", "requirements-route53.lock"} <= copied <= allowed
    assert [name for name in copied if not (ROOT / name).exists()] == []
