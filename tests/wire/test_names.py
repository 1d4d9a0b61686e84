"""Domain names in text and in wire format: labels, limits and compression pointers."""

from __future__ import annotations

import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svcdns.wire import names
from svcdns.wire.errors import FormError, NameTextError

NAMES = st.lists(st.binary(min_size=1, max_size=20), max_size=8).map(names.from_labels)


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        pytest.param(".", b"\0", id="root"),
        pytest.param("a.b.", b"\1a\1b\0", id="absolute"),
        pytest.param("a.b", b"\1a\1b\0", id="without the final dot"),
        pytest.param(r"a\.b.c.", b"\3a.b\1c\0", id="escaped dot"),
        pytest.param(r"\032x.", b"\2 x\0", id="decimal escape"),
        pytest.param("*.x.", b"\1*\1x\0", id="asterisk"),
    ],
)
def test_reads_names_from_text(text: str, wire: bytes) -> None:
    """The text form of names is in RFC 1035 §5.1."""
    assert names.from_text(text) == wire


@pytest.mark.parametrize("text", ["a..b", "x" * 64 + ".", ".".join(["x" * 63] * 4) + ".", "\\", r"\999."], ids=str)
def test_refuses_text_that_is_no_name(text: str) -> None:
    with pytest.raises(NameTextError):
        names.from_text(text)


@given(NAMES)
def test_text_round_trips_and_agrees_with_dnspython(wire: bytes) -> None:
    text = names.to_text(wire)
    assert names.from_text(text) == wire
    assert dns.name.from_text(text).to_wire() == wire


@given(NAMES, NAMES)
def test_is_within_compares_whole_labels(name: bytes, zone: bytes) -> None:
    ours, theirs = names.labels_of(name), names.labels_of(zone)
    assert names.is_within(name, zone) == (
        ours[len(ours) - len(theirs) :] == theirs if len(theirs) <= len(ours) else False
    )


def test_suffixes_go_from_the_name_to_the_root() -> None:
    assert names.suffixes(b"\1a\1b\0") == [b"\1a\1b\0", b"\1b\0", b"\0"]


def test_reads_compressed_names() -> None:
    message = bytes(12) + b"\1b\1c\0" + b"\1a\xc0\x0c"
    assert names.read_name(message, 17) == (b"\1a\1b\1c\0", 21)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"\xc0\x00", id="to itself"),
        pytest.param(b"\xc0\x02\xc0\x00", id="forward"),
        pytest.param(b"\x05ab", id="cut label"),
        pytest.param(b"\1a", id="no root"),
        pytest.param(b"\x40" + bytes(70), id="a label of 64"),
        pytest.param(b"\xc0", id="half a pointer"),
        pytest.param((b"\x3f" + b"x" * 63) * 4 + b"\0", id="longer than 255"),
    ],
)
def test_refuses_bad_names_in_messages(message: bytes) -> None:
    with pytest.raises(FormError):
        names.read_name(message, 0)


@pytest.mark.parametrize(
    ("before", "name"),
    [
        pytest.param(b"\6xx", b"\1a\xc0\x0c\0", id="a label that reaches the name"),
        pytest.param(b"\1a\0\xc0", b"\x0cabcdefghijkl\xc0\x0f", id="half of a pointer"),
    ],
)
def test_a_pointer_must_not_lead_into_the_name_that_contains_it(before: bytes, name: bytes) -> None:
    with pytest.raises(FormError):
        names.read_name(bytes(12) + before + name, 12 + len(before))


def test_the_target_of_a_pointer_is_read_once() -> None:
    message = bytes(12) + b"\1b\1c\0" + b"\1a\xc0\x0c" + b"\1d\xc0\x0c" + b"\xc0\x11"
    reader = names.NameReader(message, 4)
    assert [reader.read(at) for at in (17, 21)] == [(b"\1a\1b\1c\0", 21), (b"\1d\1b\1c\0", 25)]
    assert reader.steps == 1
    with pytest.raises(FormError, match="too many compressed names"):
        reader.read(25)


@given(st.lists(st.sampled_from([b"\0", b"\1a", b"\2bc", b"\xc0\x0c", b"\xc0\x0d", b"\xc0\x0f", b"\xc0\x12", b"\x07"])))
def test_a_name_does_not_depend_on_the_names_read_before(parts: list[bytes]) -> None:
    message = bytes(12) + b"".join(parts)
    reader = names.NameReader(message, 1 << 16)
    for at in range(12, len(message) + 1):
        try:
            expected = names.read_name(message, at)
        except FormError:
            with pytest.raises(FormError):
                reader.read(at)
        else:
            assert reader.read(at) == expected


def test_a_name_has_at_most_32_pointers() -> None:
    message = (
        bytes(12)
        + b"\1a\0"
        + b"".join((0xC000 | target).to_bytes(2, "big") for target in [12, *range(15, 15 + 2 * 32, 2)])
    )
    assert names.read_name(message, 15 + 2 * 31) == (b"\1a\0", 15 + 2 * 32)
    with pytest.raises(FormError):
        names.read_name(message, 15 + 2 * 32)


@given(st.lists(NAMES))
def test_ancestors_are_the_suffixes_without_the_name(of: list[bytes]) -> None:
    assert names.ancestors(of) == {above for name in of for above in names.suffixes(name)[1:]}


@pytest.mark.parametrize("offset", [0, 1, 11])
def test_a_pointer_into_the_header_is_refused(offset: int) -> None:
    """The pointer is refused even if the octets of the header form a valid name."""
    message = b"\1a\1b\1c\1d\1e\1f\0" + bytes((0xC0, offset))
    with pytest.raises(FormError, match="to a name"):
        names.read_name(message, len(message) - 2)
