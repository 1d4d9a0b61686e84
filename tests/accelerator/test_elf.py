"""The reader of object files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from svcdns.accelerator import elf, layout
from svcdns.accelerator.elf import MalformedObject, Program, read_program

OBJECT = Path(elf.__file__).with_name("answers.bpf.o").read_bytes()
LOAD, STORES, JUMPS, REGISTER, STACK = 1, (2, 3), (5, 6), 8, 10
UNSIGNED = (2, 3, 10, 11)
"""The comparisons of unsigned numbers, which are the upper half of the operation code."""
MAPS = {name: number for number, name in enumerate(layout.program_shapes(1, 1, 1), 1000)}


def test_the_program_refers_to_each_map() -> None:
    program = read_program(OBJECT, "tcx")
    assert {name for _, name in program.references} == set(MAPS)
    linked = program.linked(MAPS)
    for at, name in program.references:
        assert linked[at + 1] >> 4 == 1  # BPF_PSEUDO_MAP_FD
        assert int.from_bytes(linked[at + 4 : at + 8], "little") == MAPS[name]


def test_the_verifier_of_older_kernels_accepts_the_program() -> None:
    """Checks two rules of the verifier before Linux 6.17, for a process without CAP_PERFMON: see packet.bpf.h."""
    assert not list(_broken_rules(read_program(OBJECT, "tcx").instructions))


def _broken_rules(code: bytes) -> Iterator[str]:
    for number, (operation, registers, offset, value) in enumerate(struct.iter_unpack("<BBhi", code)):
        kind, base = operation & 7, registers >> 4 if operation & 7 == LOAD else registers & 15
        if kind in (LOAD, *STORES) and base != STACK and offset < 0:
            yield f"{number}: an access before the address that a variable was added to"
        if kind in JUMPS and not operation & REGISTER and operation >> 4 in UNSIGNED and value < 0:
            yield f"{number}: one comparison for a range, of another register"


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
