"""Reads the queries of clients from a query log, a list of names, a packet capture, or a file of dnstap messages.

A query is an encoded message whose id is 0. Unusable items are counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from svcdns.shadow.dnstap_source import is_dnstap, queries
from svcdns.shadow.errors import ShadowError
from svcdns.shadow.packet_capture import is_capture, payloads
from svcdns.wire import names
from svcdns.wire.codes import OPCODE_MASK, QR, RD, Class, Type
from svcdns.wire.errors import NameTextError
from svcdns.wire.tool_messages import OptRecord, Question, query

_LOGGED: Final = re.compile(
    r'"(?P<type>\S+) (?P<class>\S+) (?P<name>\S+) (?:udp|tcp|tls|https|quic|grpc)\d? \d+ (?P<do>true|false) (?P<size>\d+)"'
)
"""The part of a line of the plugin *log* in its default format."""
_BRACE: Final = re.compile(r"^[^\"#;]*\s\{\s*$")
"""A line that opens a block of a Corefile."""
_DO: Final = 0x8000
_NUMBERED: Final = re.compile(r"TYPE(\d{1,5})")


class Queries:
    """The queries of one file. `left_out` has the number of unusable items by reason."""

    def __init__(self, content: bytes) -> None:
        """`content` is the whole file: a capture in the format pcap or pcapng, dnstap messages, or lines of text."""
        self._content = content
        self.left_out: Counter[str] = Counter()

    def __iter__(self) -> Iterator[bytes]:
        """Yields each query. Raises ShadowError for a capture that cannot be read."""
        if is_capture(self._content):
            yield from self._captured()
        elif is_dnstap(self._content):
            yield from queries(self._content, self.left_out)
        else:
            yield from self._written(self._content.decode(errors="replace").splitlines())

    def _captured(self) -> Iterator[bytes]:
        for packet in payloads(self._content, self.left_out):
            if len(packet) < 12:
                self.left_out["shorter than a header"] += 1
            elif int.from_bytes(packet[2:4], "big") & (QR | OPCODE_MASK):
                self.left_out["a reply, or no query by its opcode"] += 1
            else:
                yield b"\0\0" + packet[2:]

    def _written(self, lines: Iterable[str]) -> Iterator[bytes]:
        for line in lines:
            text = line.strip()
            if not text or text.startswith((";", "#")):
                continue
            made = self._from_log(text) if '"' in text else self._from_words(text.split())
            if made is not None:
                yield made

    def _from_log(self, line: str) -> bytes | None:
        found = _LOGGED.search(line)
        if found is None:
            self.left_out["a line that is no query in the default format of the plugin log"] += 1
            return None
        if found["class"] != "IN":
            self.left_out["a class other than IN"] += 1
            return None
        size = int(found["size"])
        opts = [OptRecord(size, _DO if found["do"] == "true" else 0)] if size > 512 or found["do"] == "true" else []
        return self._made(found["name"], found["type"], opts)

    def _from_words(self, words: list[str]) -> bytes | None:
        """Makes a query from the words `NAME` or `NAME TYPE`, as dnsperf does."""
        if len(words) > 2:
            self.left_out["a line that is not 'NAME TYPE'"] += 1
            return None
        return self._made(words[0], words[1] if len(words) == 2 else "A", [OptRecord(1232, 0)])

    def _made(self, name: str, rtype: str, opts: list[OptRecord]) -> bytes | None:
        number = Type.__members__.get(rtype.upper())
        numbered = _NUMBERED.fullmatch(rtype.upper())
        if number is None and (numbered is None or int(numbered[1]) > 65535):
            self.left_out[f"the type {rtype}"] += 1
            return None
        try:
            wire = names.from_text(name)
        except NameTextError:
            self.left_out["a name that cannot be encoded"] += 1
            return None
        kind = int(number) if number is not None else int(numbered[1])  # type: ignore[index]
        return query(0, RD, [Question(wire, kind, Class.IN)], opts)


def read(path: str) -> Queries:
    """Reads the queries of a file. Raises ShadowError if the file cannot be read or is a Corefile."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise ShadowError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    if not is_capture(content) and not is_dnstap(content):
        for number, line in enumerate(content.decode(errors="replace").splitlines(), 1):
            if _BRACE.search(line):
                text = f"line {number} is '{line.strip()}'; this is no list of queries, but perhaps a Corefile"
                raise ShadowError(f"{path}: {text}")
    return Queries(content)
