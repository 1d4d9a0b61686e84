"""The options of *tsig*."""

from __future__ import annotations

import pytest

from svcdns.wire.codes import Opcode, Type
from svcdns.wire.names import from_text
from tests.support import world


def test_reads_all_options() -> None:
    options = world.options(
        "tsig",
        "tsig a.test B.test {\n secret K.test QUFBQQ==\n secret other QkJCQg==\n secrets /etc/keys\n"
        " require AXFR IXFR\n require_opcode NOTIFY UPDATE\n}",
    )
    assert options.rules.zones == (from_text("a.test"), from_text("b.test"))
    assert (options.rules.types, options.rules.opcodes) == ({Type.AXFR, Type.IXFR}, {Opcode.NOTIFY, Opcode.UPDATE})
    assert dict(options.secrets) == {from_text("k.test"): b"AAAA", from_text("other"): b"BBBB"}
    assert options.files == ("/etc/keys",)


def test_the_zones_of_the_block_are_the_default() -> None:
    """Nothing is required."""
    rules = world.options("tsig", "tsig", zones="x.test").rules
    assert (rules.zones, rules.types, rules.opcodes) == ((from_text("x.test"),), frozenset(), frozenset())


@pytest.mark.parametrize(
    ("line", "types"),
    [("require all", None), ("require none", frozenset()), ("require A\n require TXT", {Type.TXT})],
)
def test_the_last_line_counts(line: str, types: object) -> None:
    assert world.options("tsig", f"tsig {{\n {line}\n}}").rules.types == types


def test_a_secret_that_is_not_base64_is_a_warning() -> None:
    """CoreDNS starts with it, too."""
    options = world.options("tsig", "tsig {\n secret k %%\n}")
    assert options.secrets == ((from_text("k"), None),)
    assert "the secret of 'k' is not base64" in options.warnings[0]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("tsig {\n secret k\n}", "line ending after 'k'"),
        ("tsig {\n secret k QQ==\n secret K. QQ==\n}", "the key 'k.' is defined twice"),
        ("tsig {\n secrets\n}", "secrets"),
        ("tsig {\n require\n}", "require"),
        ("tsig {\n require axfr\n}", "'axfr' is not a query type (did you mean 'AXFR'?); one in capitals was expected"),
        ("tsig {\n require_opcode NOTIFI\n}", "'NOTIFI' is not an opcode (did you mean 'NOTIFY'?)"),
        ("tsig {\n secrt k QQ==\n}", "unknown property 'secrt' (did you mean 'secret'?)"),
        ("tsig\ntsig", "tsig"),
    ],
)
def test_rejects(text: str, error: str) -> None:
    assert error in world.rejection("tsig", text)
