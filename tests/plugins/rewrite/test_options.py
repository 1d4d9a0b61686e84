"""The options of *rewrite* (docs/behaviour/plugins.md#rewrite)."""

from __future__ import annotations

import pytest

from svcdns.corefile.regex import compiled
from svcdns.plugins.rewrite.edns import Fixed, OptionRule, Subnet, Variable
from svcdns.plugins.rewrite.name_match import Match, ReplaceName
from svcdns.plugins.rewrite.query_rules import ClassRule, CnameRule, NameRule, ResponsesRule, Rule, TypeRule
from svcdns.plugins.rewrite.response_rules import CnameTarget, OwnerNames, ResponseCode, TtlBounds, ValueNames
from tests.support import world


def pattern(text: str) -> Match:
    """Returns a match by regular expression."""
    return Match("regex", text, compiled(text))


REVERT_SUFFIX = ReplaceName(Match("suffix", ".c.d."), ".a.b.")
DEFAULT_NAME = NameRule(True, Match("exact", "a.b."), "c.d.", True)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        pytest.param("name A.b C.d", DEFAULT_NAME, id="name, exact by default"),
        pytest.param("NAME Exact a.b. c.d.", DEFAULT_NAME, id="words in upper case"),
        pytest.param("{\n name a.b c.d\n}", DEFAULT_NAME, id="in a block"),
        pytest.param(
            "continue {\n name\n a.b\n c.d\n}",
            NameRule(False, Match("exact", "a.b."), "c.d.", True),
            id="a block of words",
        ),
        pytest.param("continue name prefix foo bar", NameRule(False, Match("prefix", "foo."), "bar."), id="prefix"),
        pytest.param(
            "name substring x y answer auto",
            NameRule(True, Match("substring", "x."), "y.", True),
            id="substring with auto",
        ),
        pytest.param(
            "stop name suffix .A.b .c.d answer auto",
            NameRule(
                True, Match("suffix", ".a.b."), ".c.d.", False, (OwnerNames(REVERT_SUFFIX), ValueNames(REVERT_SUFFIX))
            ),
            id="suffix with auto",
        ),
        pytest.param("name regex (.*)\\.A {1}.B", NameRule(True, pattern("(.*)\\.A"), "{1}.b."), id="regex"),
        pytest.param(
            "{\n name regex (.*)a b\n answer name (b) {1}c\n value d E\n}",
            NameRule(
                True,
                pattern("(.*)a"),
                "b.",
                False,
                (OwnerNames(ReplaceName(pattern("(b)"), "{1}c.")), ValueNames(ReplaceName(pattern("d"), "e."))),
            ),
            id="answers in a chain",
        ),
        pytest.param("type any HINFO", TypeRule(True, 255, 13), id="type"),
        pytest.param("type TYPE65280 A", TypeRule(True, 65280, 1), id="type by number"),
        pytest.param("class CH in", ClassRule(True, 3, 1), id="class"),
        pytest.param("ttl a.b 30", ResponsesRule(True, Match("exact", "a.b."), (TtlBounds(30, 30),)), id="ttl"),
        pytest.param(
            "ttl suffix .b 30-60", ResponsesRule(True, Match("suffix", ".b."), (TtlBounds(30, 60),)), id="ttl between"
        ),
        pytest.param("ttl regex b -60", ResponsesRule(True, pattern("b"), (TtlBounds(0, 60),)), id="ttl at most"),
        pytest.param(
            "ttl a 30-", ResponsesRule(True, Match("exact", "a."), (TtlBounds(30, 2147483647),)), id="ttl at least"
        ),
        pytest.param(
            "rcode a NXDOMAIN 0", ResponsesRule(True, Match("exact", "a."), (ResponseCode(3, 0),)), id="rcode"
        ),
        pytest.param(
            "rcode prefix a servfail 23",
            ResponsesRule(True, Match("prefix", "a."), (ResponseCode(2, 23),)),
            id="rcode with a match",
        ),
        pytest.param("cname A b", CnameRule(True, CnameTarget(Match("exact", "a."), "b.")), id="cname"),
        pytest.param(
            "cname suffix A b", CnameRule(True, CnameTarget(Match("suffix", "a"), "b")), id="cname, no final dot added"
        ),
        pytest.param(
            "edns0 local set 0xffee text", OptionRule(True, "set", 65518, Fixed(b"text"), local=True), id="local"
        ),
        pytest.param(
            "edns0 local append 010 0x0aFF",
            OptionRule(True, "append", 8, Fixed(b"\x0a\xff"), local=True),
            id="hexadecimal",
        ),
        pytest.param(
            "edns0 local replace 65001 {client_ip} revert",
            OptionRule(True, "replace", 65001, Variable("client_ip"), revert=True, local=True),
            id="a variable",
        ),
        pytest.param(
            "edns0 local set 1 {a/b}", OptionRule(True, "set", 1, Variable("a/b"), local=True), id="a label of metadata"
        ),
        pytest.param("edns0 local unset 65001", OptionRule(True, "unset", 65001, Fixed(b""), local=True), id="unset"),
        pytest.param("edns0 nsid set", OptionRule(True, "set", 3, Fixed(b"")), id="nsid"),
        pytest.param(
            "edns0 subnet set 24 56 revert", OptionRule(True, "set", 8, Subnet(24, 56), revert=True), id="subnet"
        ),
        pytest.param("edns0 subnet unset", OptionRule(True, "unset", 8, Subnet(0, 0)), id="subnet unset"),
    ],
)
def test_rules(text: str, rule: Rule) -> None:
    assert world.options("rewrite", f"rewrite {text}").rules == (rule,)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("rewrite", "2:1 a rule was expected", id="nothing"),
        pytest.param("rewrite stop", "2:1 a rule was expected", id="a mode alone"),
        pytest.param("rewrite nam a b", "2:9 unknown rule 'nam' (did you mean 'name'?)", id="unknown rule"),
        pytest.param("rewrite name a b {\n}", "2:1 'rewrite' takes no block", id="line and block"),
        pytest.param(
            "rewrite {\n answer auto\n}", "3:2 response rewrites must begin with a name rule", id="answer first"
        ),
        pytest.param("rewrite name a", "2:14 too few words", id="one name"),
        pytest.param("rewrite name exakt a b", "2:14 'exakt' is not a kind of match", id="unknown match"),
        pytest.param("rewrite name suffix a b auto", "2:25 'answer' was expected", id="no answer word"),
        pytest.param("rewrite name suffix a b answer", "2:25 auto, name or value was expected", id="answer alone"),
        pytest.param("rewrite name suffix a b answer nam x y", "2:32 'nam' is unknown", id="unknown answer"),
        pytest.param(
            "rewrite name suffix a b answer name x", "2:32 a pattern and a name were expected", id="half an answer"
        ),
        pytest.param(
            "rewrite name suffix a b answer auto name x y", "2:37 'answer name' cannot be combined", id="auto and name"
        ),
        pytest.param("rewrite name regex ( b", "2:20 '(' is not a regular expression", id="bad pattern"),
        pytest.param("rewrite name regex (a) {1}{2}", "2:24 '{1}{2}' uses more groups", id="too many groups"),
        pytest.param("rewrite name exact a.{1} b", "2:20 'a.{1}' uses more groups", id="groups in an exact name"),
        pytest.param(
            "rewrite name exact a *.b",
            "2:22 '*.b.' is not a regular expression",
            id="an exact name is read as a pattern",
        ),
        pytest.param("rewrite type A", "2:14 too few words", id="one type"),
        pytest.param("rewrite type A AAAA MX", "2:21 'MX' is one word too many", id="three types"),
        pytest.param("rewrite type A B", "2:16 'B' is not a type", id="unknown type"),
        pytest.param("rewrite class IN XX", "2:18 'XX' is not a class", id="unknown class"),
        pytest.param("rewrite ttl a -", "2:15 invalid TTL '-'", id="ttl without bounds"),
        pytest.param("rewrite ttl a 60-30", "2:15 invalid TTL '60-30'", id="ttl with the lower bound above the upper"),
        pytest.param("rewrite ttl a 1-2-3", "2:15 invalid TTL '1-2-3'", id="ttl with three numbers"),
        pytest.param("rewrite ttl a 4294967296", "2:15 invalid TTL", id="ttl too large"),
        pytest.param("rewrite rcode a NXDOMAIN", "2:17 too few words", id="one code"),
        pytest.param("rewrite rcode a NXDOMAIN 24", "2:26 '24' is not a response code", id="code too large"),
        pytest.param("rewrite cname near a b", "2:15 'near' is not a kind of match", id="cname match"),
        pytest.param("rewrite edns0 local", "2:15 too few words", id="edns0 alone"),
        pytest.param("rewrite edns0 cookie set", "2:15 'cookie' is unknown", id="unknown option"),
        pytest.param("rewrite edns0 local put 1 2", "2:21 'put' is unknown", id="unknown action"),
        pytest.param("rewrite edns0 local set 1", "2:25 too few words", id="no data"),
        pytest.param("rewrite edns0 local set 65536 a", "2:25 65536 is out of range", id="code out of range"),
        pytest.param("rewrite edns0 local set x a", "2:25 'x' is not a number", id="code not a number"),
        pytest.param("rewrite edns0 local set 1 0xz", "2:27 '0xz' is not hexadecimal", id="bad hexadecimal"),
        pytest.param("rewrite edns0 local set 1 {client}", "2:27 unknown variable '{client}'", id="unknown variable"),
        pytest.param("rewrite edns0 nsid set x", "2:24 'x' is one word too many", id="nsid with data"),
        pytest.param("rewrite edns0 subnet set 33 56", "2:26 33 is out of range", id="subnet too long"),
    ],
)
def test_rejected_directives(text: str, error: str) -> None:
    assert world.rejection("rewrite", text).startswith(error)
