"""Server blocks must not have overlapping keys (docs/behaviour/corefile.md#server-block-keys)."""

from __future__ import annotations

import pytest

from svcdns.corefile.errors import CorefileError
from svcdns.corefile.keys import check_overlap
from svcdns.corefile.parser import parse


@pytest.mark.parametrize(
    ("hosts", "message"),
    [
        pytest.param(((("",)), (("",))), "cannot serve dns://a.org.:53 - it is already defined", id="twice"),
        pytest.param(
            (("127.0.0.1",), ("127.0.0.1",)), "cannot serve dns://a.org.:53 - it is already defined", id="twice bound"
        ),
        pytest.param((("127.0.0.1",), ("",)), "zone overlap listener capacity", id="bound and unbound"),
    ],
)
def test_overlapping_keys_are_refused(hosts: tuple[tuple[str, ...], ...], message: str) -> None:
    corefile = parse("a.org {\n}\nA.org {\n}", "Corefile", environ={})
    with pytest.raises(CorefileError, match=message) as caught:
        check_overlap(corefile.blocks, hosts)
    assert caught.value.position.line == 3


def test_a_port_has_one_transport() -> None:
    """`dns://` and `tls://` both need the TCP socket of the port."""
    corefile = parse("a.org:853 {\n}\ntls://b.org {\n}", "Corefile", environ={})
    with pytest.raises(
        CorefileError, match=r"cannot serve tls://b\.org\.:853 - port 853 serves dns:// at line 1 already"
    ):
        check_overlap(corefile.blocks, (("",), ("",)))
    check_overlap(corefile.blocks, (("127.0.0.1",), ("127.0.0.2",)))


def test_different_addresses_are_no_overlap() -> None:
    corefile = parse("a.org {\n}\na.org {\n}\na.org:54 {\n}", "Corefile", environ={})
    check_overlap(corefile.blocks, (("127.0.0.1",), ("127.0.0.2",), ("127.0.0.1",)))
    assert len(corefile.blocks) == 3


def test_a_block_with_a_view_may_have_the_keys_of_another_block() -> None:
    """Blocks with views overlap neither each other nor a block without a view, unless only one of them is bound."""
    corefile = parse("a.org {\n}\na.org {\n}\na.org {\n}", "Corefile", environ={})
    everywhere = (("",), ("",), ("",))
    check_overlap(corefile.blocks, everywhere, with_view=(0, 1))
    check_overlap(corefile.blocks, everywhere, with_view=(1, 2))
    with pytest.raises(CorefileError, match="it is already defined at line 1"):
        check_overlap(corefile.blocks, everywhere, with_view=(1,))
    with pytest.raises(CorefileError, match="zone overlap listener capacity"):
        check_overlap(corefile.blocks, (("",), ("127.0.0.1",), ("127.0.0.1",)), with_view=(1, 2))


@pytest.mark.parametrize("key", ["DNS://a.test", "Tls://a.test"])
def test_a_scheme_in_capital_letters(key: str) -> None:
    (made,) = parse(f"{key} {{\n}}", "Corefile", environ={}).blocks[0].keys
    assert (made.transport, made.zone) == (key[:3].lower(), "a.test.")


@pytest.mark.parametrize("key", ["a" * 60 + '"', "a-" * 30 + "_b", "a." * 60 + "%"])
def test_a_long_name_of_unusual_syntax(key: str) -> None:
    """The time of the check must not grow exponentially with the length of the name (preferred syntax: RFC 1035
    §2.3.1).
    """
    assert any("preferred syntax" in line for line in parse(f"{key} {{\n}}", "Corefile", environ={}).warnings)


@pytest.mark.parametrize("key", ["a", "a.b.", "a-b.c9.", "1.2", "xn--a.b", "."])
def test_a_name_of_the_preferred_syntax_causes_no_warning(key: str) -> None:
    assert parse(f"{key} {{\n}}", "Corefile", environ={}).warnings == ()
