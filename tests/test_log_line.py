"""The form of svcdns's own log lines (docs/operating.md#logs), and the log calls in the source."""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

import svcdns
from svcdns.log_line import LogLine, printable

SOURCE: Final = Path(svcdns.__file__).parent
METHODS: Final = {"debug", "info", "warning", "error", "exception", "critical", "log"}
LOGGERS: Final = {"log", "logger", "plugin_logger", "getLogger", "_root"}
_MAY_LOG: Final = re.compile(rf"(log|logger|_root|\)|limit)\s*\.({'|'.join(METHODS)})\b|LogLine\(")
LIMITS: Final = {"_limit", "limit"}

COREDNS_LINES: Final = {
    "svcdns/control/endpoints.py": {
        'Local health request to "%s" failed: %s',
        'Local health request to "%s" took more than 1s: %.3fs',
        'Plugins not ready: "%s"',
    },
    "svcdns/control/event_commands.py": {'%s Command "%s" with ID %s', "error on 'on-%s' hook: %s"},
    "svcdns/control/page_sockets.py": {"%s: %s"},  # Failed to start metrics handler: listen tcp :9153: ...
    "svcdns/control/process.py": {
        "Corefile changed but reload failed: %s",
        "Corefile parse failed: %s",
        "Going into lameduck mode for %gs",
        "Restart failed: %s",
        "Running configuration SHA512 = %s",
        "SIGUSR1: %s",
        "SIGUSR1: loading updated Caddyfile: %s",
        "line",  # a warning about the Corefile without a position has the text of CoreDNS
    },
    "svcdns/plugins/acl.py": {"Blocking request. Unable to parse source address: %s"},
    "svcdns/plugins/auto/directory.py": {
        "Deleting zone `%s'",
        "Directory does not exist: %s",
        "Inserting zone `%s' from: %s",
        'Multiple zone files match origin "%s": using "%s" instead of "%s"',
        "Parse zone `%s': %s",
        "Parse zone `%s': %s: %s",
        "error reading %s: %s",
    },
    "svcdns/plugins/dnstap/listener.py": {"Dropped dnstap messages: %d", "Failed to start dnstap listener: %s: %s"},
    "svcdns/plugins/dnstap/writer.py": {"Dropped dnstap messages: %d", "No connection to dnstap endpoint: %s: %s"},
    "svcdns/plugins/errors.py": {"%d errors like '%s' occurred in last %s", "%s"},
    "svcdns/plugins/hosts/options.py": {"File does not exist: %s", 'Hosts file "%s" is a directory'},
    "svcdns/plugins/loadbalance/options.py": {"%s", "Successfully reloaded weight file %s"},
    "svcdns/plugins/loop.py": {
        'Loop (%s) detected for zone "%s". Query: "HINFO %s"; forward to servers that do not send queries back; '
        "queries to be forwarded out of this zone get SERVFAIL until the loop is gone",
    },
    "svcdns/plugins/nomad/handler.py": {
        "%s",
        "Looking up record for svc: %s namespace: %s",
        "no Nomad client available: %s",
    },
    "svcdns/plugins/route53/__init__.py": {"DEPRECATED"},
    "svcdns/plugins/secondary/catalog_members.py": {
        "Added catalog member zone %s from catalog %s",
        "Removed catalog member zone %s from catalog %s",
        "Skipping catalog member zone %s from %s: zone already exists",
    },
    "svcdns/plugins/secondary/handler.py": {"Notify from %s for %s: checking transfer"},
    "svcdns/plugins/secondary/refresher.py": {
        "All '%s' masters failed to transfer, retrying in %gs",
        "Failed refresh check of zone %s: %s",
        'Failed to transfer `%s\' from "%s": %s',
        "Transferred: %s from %s",
    },
    "svcdns/plugins/sign/watcher.py": {
        "%s, next: %s",  # Error signing "example.org.": ...
        'Signing "%s" because %s',
        'Skipping signing zone "%s" in "%s": signatures are valid',
        'Successfully signed zone "%s" in "%s" with key tags "%s" and %d SOA serial, elapsed %f, next: %s',
    },
    "svcdns/plugins/tsig/handler.py": {"TSIG validation failed: %s %s", "rejecting '%s' request without TSIG"},
    "svcdns/serving/transport/proxied.py": {"dropping invalid Proxy Protocol packet from %s: %s"},
    "svcdns/telemetry/logging.py": {"%s", "text"},  # the lines that other modules made
    "svcdns/zones/hosted_zone_refresh.py": {
        "Failed to update zones [%s]: %s",
        "text",  # `Failed to process resource record set: ...` of CoreDNS, or a LogLine
    },
    "svcdns/zones/zone_files.py": {'Successfully reloaded zone "%s" in "%s" with %d SOA serial'},
}
"""By module: the texts of log calls that are not a `LogLine` and have values. They are lines of CoreDNS."""


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param(0, "0", id="whole number"),
        pytest.param(5.0626, "5.063", id="three digits after the point"),
        pytest.param(300.0, "300", id="no digits after the point"),
        pytest.param(True, "true", id="boolean"),
        pytest.param("a.example", "a.example", id="word"),
        pytest.param("a\\.b", "a\\.b", id="backslash"),
        pytest.param(Path("/etc/x"), "/etc/x", id="path"),
        pytest.param("", '""', id="empty"),
        pytest.param("two words", '"two words"', id="space"),
        pytest.param("a=b", '"a=b"', id="equals sign"),
        pytest.param('a"b\\c d', '"a\\"b\\\\c d"', id="quote and backslash"),
        pytest.param("a\nb\tc\rd\x1b[0m", '"a\\nb\\tc\\rd\\u001b[0m"', id="control characters"),
        pytest.param("\u2028\U000e0001", '"\\u2028\\udb40\\udc01"', id="other line breaks"),
        pytest.param(ValueError("no"), "no", id="error"),
        pytest.param(TimeoutError(), "TimeoutError", id="error without a text"),
        pytest.param(["a", "b"], "a,b", id="list"),
    ],
)
def test_values(value: object, shown: str) -> None:
    assert LogLine("text", key=value) == f"text key={shown}"


@given(st.text())
def test_a_value_is_a_word_or_a_json_string_in_one_line(value: str) -> None:
    line = LogLine("text", key=value)
    shown = line.removeprefix("text key=")
    assert len(line.splitlines()) == 1
    assert (json.loads(shown) if shown.startswith('"') else shown) == value


def test_the_fields_keep_their_types() -> None:
    line = LogLine("text", number=5, share=0.5, missing=None)
    assert (line.text, line.fields) == ("text", {"number": 5, "share": 0.5})
    assert line == "text number=5 share=0.5"


def test_a_text_of_coredns_has_one_line() -> None:
    assert printable("a\nb \u00e9\x00") == "a\\nb \u00e9\\u0000"


# -- the log calls in the source


@functools.cache
def _modules() -> dict[str, ast.Module]:
    """Returns the modules that may have a log call."""
    texts = {module.relative_to(SOURCE.parent).as_posix(): module.read_text() for module in SOURCE.rglob("*.py")}
    return {name: ast.parse(text) for name, text in texts.items() if _MAY_LOG.search(text)}


def _last(node: ast.expr) -> str:
    match node:
        case ast.Name(name) | ast.Attribute(_, name):
            return name
        case ast.Call(function):
            return _last(function)
    return ""


def _log_calls(tree: ast.AST) -> Iterator[tuple[ast.Call, ast.expr | None]]:
    """Yields each call of a logger or a LineLimit, with the argument that is the text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            receiver = _last(node.func.value)
            is_limit = receiver in LIMITS
            if is_limit or receiver in LOGGERS or receiver.endswith("_log"):
                at = 2 if is_limit else int(node.func.attr == "log")
                yield node, node.args[at] if len(node.args) > at else None


def test_no_method_of_a_logger_is_kept_for_later() -> None:
    """Otherwise the test of the texts would miss its calls."""
    trees = _modules().values()
    called = {id(call.func) for tree in trees for call, _ in _log_calls(tree)}
    methods = [
        node
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in METHODS
        and (_last(node.value) in LOGGERS - {"log"} or _last(node.value).endswith("_log"))
    ]
    assert len(methods) > 50
    assert [ast.unparse(node) for node in methods if id(node) not in called] == []


def _is_log_line(node: ast.expr | None) -> bool:
    """Returns True for `LogLine("a constant text", ...)`."""
    return isinstance(node, ast.Call) and _last(node.func) == "LogLine" and isinstance(node.args[0], ast.Constant)


def _others(tree: ast.AST) -> set[str]:
    """Returns the texts of a module's log calls that have values outside a LogLine. A name stands for a variable."""
    found = set()
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
        assigned: dict[str, list[ast.expr]] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                assigned.setdefault(node.targets[0].id, []).append(node.value)
        for call, text in _log_calls(function):
            values = assigned.get(text.id, []) if isinstance(text, ast.Name) else []
            if _is_log_line(text) or (values and all(map(_is_log_line, values))):
                continue
            if values and all(isinstance(value, ast.Constant) for value in values):
                found |= {str(value.value) for value in values if isinstance(value, ast.Constant)}
            elif not isinstance(text, ast.Constant):
                found.add(ast.unparse(text) if text is not None else ast.unparse(call))
            elif "%" in str(text.value):
                found.add(str(text.value))
    return found


def test_only_lines_of_coredns_have_values_in_their_text() -> None:
    """Our own lines are a constant text, or a `LogLine`. An entry of COREDNS_LINES that no call has is an error."""
    found = {name: _others(tree) for name, tree in _modules().items()}
    assert {name: texts for name, texts in found.items() if texts} == COREDNS_LINES


def test_each_log_line_has_a_constant_text() -> None:
    """Two modules make a new line from an existing one."""
    found = {
        name
        for name, tree in _modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _last(node.func) == "LogLine" and not _is_log_line(node)
    }
    assert found == {"svcdns/inspection/problem.py", "svcdns/telemetry/logging.py"}


def test_the_supervisor_logs_constant_texts_and_log_lines() -> None:
    """It writes its lines without the module logging, with the level in the text."""
    calls = [
        (module.name, node.lineno, node.args[0])
        for module in (SOURCE / "supervisor").glob("*.py")
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Call) and _last(node.func) in ("log", "_log") and node.args
    ]
    assert len(calls) > 15
    others = [(name, at) for name, at, text in calls if not _is_log_line(text) and not isinstance(text, ast.Constant)]
    assert [name for name, _ in others] == ["sockets.py"], "lines that were made before the sockets are bound"
