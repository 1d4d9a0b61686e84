"""Reads a program for the kernel from the object file that clang writes (ELF, 64 bits, little endian)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from svcdns.accelerator.protocol import AcceleratorError

_IDENT: Final = b"\x7fELF\x02\x01\x01"
_BPF_MACHINE: Final = 247
_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_RELOCATION: Final = struct.Struct("<QQ")
_PSEUDO_MAP_FD: Final = 1
_WIDE_LOAD: Final = 0x18
"""The operation code of an instruction that loads 64 bits. Only such an instruction refers to a map."""


class MalformedObject(AcceleratorError):
    """Raised if the file is not an object file for BPF, or does not contain the program."""


@dataclass(frozen=True, slots=True)
class Program:
    """The instructions of a program, and the names of the maps to which the instructions refer."""

    instructions: bytes
    references: tuple[tuple[int, str], ...]
    """The offset of an instruction, and the name of its map."""

    def linked(self, maps: Mapping[str, int]) -> bytes:
        """Returns the instructions with the descriptors of `maps` in their places. Raises MalformedObject."""
        out = bytearray(self.instructions)
        for at, name in self.references:
            if name not in maps:
                raise MalformedObject(f"the program needs a map {name!r}, which is not known")
            out[at + 1] = out[at + 1] & 0x0F | _PSEUDO_MAP_FD << 4
            struct.pack_into("<i", out, at + 4, maps[name])
        return bytes(out)


def read_program(octets: bytes, section: str) -> Program:
    """Reads the program in `section` of an object file. The symbol `NAME_map` stands for the map `NAME`."""
    try:
        sections = _sections(octets)
        code, symbols = sections[section], sections[".symtab"]
        names = sections[".strtab"]
        references = tuple(_references(code, sections.get(f".rel{section}", b""), symbols, names))
    except (struct.error, IndexError, OverflowError, ValueError) as error:
        raise MalformedObject("the object file of the program is malformed") from error
    except KeyError as error:
        raise MalformedObject(f"the object file of the program has no section {error}") from error
    if not code or len(code) % 8:
        raise MalformedObject("the program in the object file is empty or cut off")
    return Program(code, references)


def _sections(octets: bytes) -> dict[str, bytes]:
    ident, _, machine, _, _, _, table_at, _, _, _, _, size, count, names_index = _HEADER.unpack_from(octets)
    if not ident.startswith(_IDENT) or machine != _BPF_MACHINE or size != _SECTION.size:
        raise MalformedObject("the file is not an object file for BPF")
    rows = [_SECTION.unpack_from(octets, table_at + number * size) for number in range(count)]
    names = _part(octets, rows[names_index][4], rows[names_index][5])
    return {_text(names, row[0]): _part(octets, row[4], row[5]) for row in rows[1:]}


def _part(octets: bytes, at: int, length: int) -> bytes:
    if at + length > len(octets):
        raise ValueError
    return octets[at : at + length]


def _text(names: bytes, at: int) -> str:
    return names[at : names.index(b"\0", at)].decode("ascii")


def _references(code: bytes, relocations: bytes, symbols: bytes, names: bytes) -> list[tuple[int, str]]:
    out = []
    for at, info in _RELOCATION.iter_unpack(relocations):
        name_at, *_ = _SYMBOL.unpack_from(symbols, (info >> 32) * _SYMBOL.size)
        name = _text(names, name_at)
        if at % 8 or code[at] != _WIDE_LOAD or at + 16 > len(code) or not name.endswith("_map"):
            raise ValueError
        out.append((at, name.removesuffix("_map")))
    return out
