"""The reader of object files."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from svcdns.accelerator import elf, layout
from svcdns.accelerator.elf import MalformedObject, Program, read_program

OBJECT = Path(elf.__file__).with_name("answers.bpf.o").read_bytes()
MAPS = {name: number for number, name in enumerate(layout.program_shapes(1, 1, 1), 1000)}


def test_the_program_refers_to_each_map() -> None:
    program = read_program(OBJECT, "tcx")
    assert {name for _, name in program.references} == set(MAPS)
    linked = program.linked(MAPS)
    for at, name in program.references:
        assert linked[at + 1] >> 4 == 1  # BPF_PSEUDO_MAP_FD
        assert int.from_bytes(linked[at + 4 : at + 8], "little") == MAPS[name]


def test_a_map_that_is_not_there() -> None:
    with pytest.raises(MalformedObject, match="'sets'"):
        Program(bytes([0x18]) + bytes(15), ((0, "sets"),)).linked({})


@pytest.mark.parametrize(
    ("octets", "section", "text"),
    [
        (b"", "tcx", "malformed"),
        (b"\x7fELF" + bytes(60), "tcx", "not an object file for BPF"),
        (OBJECT[:18] + b"\x3e\0" + OBJECT[20:], "tcx", "not an object file for BPF"),
        (OBJECT[:-1], "tcx", "malformed"),
        (OBJECT, "xdp", "no section 'xdp'"),
        (OBJECT, ".text", "empty"),
    ],
    ids=["empty", "no ELF file", "other machine", "cut off", "no such section", "empty section"],
)
def test_malformed_objects(octets: bytes, section: str, text: str) -> None:
    with pytest.raises(MalformedObject, match=text):
        read_program(octets, section)


HEADER = OBJECT[:64]
TABLE = OBJECT[int.from_bytes(OBJECT[0x28:0x30], "little") :]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 63), st.integers(0, len(TABLE) - 1), st.integers(0, 255))
@example(0x2F, 0, 255)
def test_damaged_headers_raise_one_error(at: int, table_at: int, octet: int) -> None:
    """A damaged header or section table leads to a program or to MalformedObject."""
    damaged = bytearray(OBJECT)
    damaged[at] = octet
    damaged[len(OBJECT) - len(TABLE) + table_at] ^= octet
    with suppress(MalformedObject):
        assert read_program(bytes(damaged), "tcx").instructions
