"""The options of *template* (docs/behaviour/plugins.md#template)."""

from __future__ import annotations

import pytest

from svcdns.corefile.regex import compiled as compile_regex
from svcdns.plugin_api.expressions import FUNCTIONS, compile_expression
from svcdns.plugins.template.go_template import parse_template
from svcdns.plugins.template.options import GROUP_FUNCTION, Rule
from tests.support import world

ALL = (compile_regex(".*"),)
NAMES = {*FUNCTIONS, GROUP_FUNCTION}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        pytest.param("IN A", Rule(1, 1, ("z.",), ALL), id="the block's zones, everything"),
        pytest.param(
            "ANY ANY B.C 10.0.0.0/8", Rule(255, 255, ("b.c.", "10.in-addr.arpa."), ALL), id="zones of its own"
        ),
        pytest.param(
            "IN A {\n match a b\n match c\n}", Rule(1, 1, ("z.",), tuple(map(compile_regex, "abc"))), id="patterns"
        ),
        pytest.param(
            "CH TXT {\n answer `a` b\n additional c\n authority d\n rcode NXDOMAIN\n upstream x\n}",
            Rule(
                3,
                16,
                ("z.",),
                ALL,
                answer=(parse_template("`a`"), parse_template("b")),
                additional=(parse_template("c"),),
                authority=(parse_template("d"),),
                rcode=3,
            ),
            id="sections",
        ),
        pytest.param("IN A {\n ederror 15\n}", Rule(1, 1, ("z.",), ALL, ederror=(15, "")), id="an extended error"),
        pytest.param('IN A {\n ederror 0 "a b"\n}', Rule(1, 1, ("z.",), ALL, ederror=(0, "a b")), id="with text"),
        pytest.param("IN A {\n fallthrough\n}", Rule(1, 1, ("z.",), ALL, fallthrough=(".",)), id="falls through"),
        pytest.param(
            "IN A {\n fallthrough a b\n}", Rule(1, 1, ("z.",), ALL, fallthrough=("a.", "b.")), id="for some names"
        ),
        pytest.param(
            "IN A {\n var n int( group('x') )\n expr n > 1 and type() == 'A'\n}",
            Rule(
                1,
                1,
                ("z.",),
                ALL,
                (("n", compile_expression("int( group('x') )", NAMES)),),
                (compile_expression("n > 1 and type() == 'A'", NAMES, {"n"}),),
            ),
            id="expressions",
        ),
    ],
)
def test_rules(text: str, rule: Rule) -> None:
    assert world.options("template", f"template {text}", zones="z").rules == (rule,)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("template IN", "2:10 Wrong argument count", id="no type"),
        pytest.param("template in A", "2:10 invalid query class in", id="class in lower case"),
        pytest.param("template IN a", "2:13 invalid RR type a", id="type in lower case"),
        pytest.param(
            "template IN A {\n mach x\n}", "3:2 unknown property 'mach' (did you mean 'match'?)", id="unknown option"
        ),
        pytest.param("template IN A {\n match\n}", "3:2 Wrong argument count", id="no pattern"),
        pytest.param("template IN A {\n match (\n}", "3:8 '(' is not a regular expression", id="bad pattern"),
        pytest.param("template IN A {\n answer\n}", "3:2 Wrong argument count", id="no template"),
        pytest.param('template IN A {\n answer a "{{ .Name"\n}', "3:11 could not compile template", id="bad template"),
        pytest.param("template IN A {\n rcode nxdomain\n}", "3:8 unknown rcode nxdomain", id="rcode in lower case"),
        pytest.param("template IN A {\n ederror 65536\n}", "3:10 65536 is out of range", id="extended error too large"),
        pytest.param("template IN A {\n ederror x\n}", "3:10 'x' is not a whole number", id="extended error by name"),
        pytest.param("template IN A {\n expr 1 +\n}", "3:7 could not compile expression", id="bad expression"),
        pytest.param(
            "template IN A {\n expr n\n}", "3:7 could not compile expression: unknown name n", id="unknown name"
        ),
        pytest.param("template IN A {\n var x\n}", "3:6 Wrong argument count", id="a variable without expression"),
        pytest.param("template IN A {\n var 1x 1\n}", "3:6 invalid variable name '1x'", id="bad name"),
        pytest.param("template IN A {\n var name 1\n}", "3:6 variable name 'name' is reserved", id="a function's name"),
        pytest.param("template IN A {\n var len 1\n}", "3:6 variable name 'len' is reserved", id="a builtin's name"),
        pytest.param("template IN A {\n var true 1\n}", "3:6 variable name 'true' is reserved", id="a literal"),
    ],
)
def test_rejected_directives(text: str, error: str) -> None:
    assert world.rejection("template", text).startswith(error)
