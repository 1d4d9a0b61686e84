"""A parsed Corefile as frozen values: tokens with their positions, directives, server blocks.

Control sends them to workers as msgpack. So their shapes are part of the hand-over format (`svcdns.feed.format`).
"""

from __future__ import annotations

import msgspec


class Position(msgspec.Struct, frozen=True, array_like=True):
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int


class Token(msgspec.Struct, frozen=True, array_like=True):
    """One word, with environment variables substituted. A `quoted` word is never a brace or a comment."""

    text: str
    position: Position
    quoted: bool = False


class Directive(msgspec.Struct, frozen=True, array_like=True):
    """A line: its first word, the words after it, and the lines in its braces (None without braces)."""

    name: Token
    arguments: tuple[Token, ...] = ()
    body: tuple[Directive, ...] | None = None

    @property
    def position(self) -> Position:
        """Where the line starts."""
        return self.name.position


class ServerKey(msgspec.Struct, frozen=True, array_like=True):
    """A key of a server block: a zone (lower case, absolute) on a port over a transport (`dns`, `tls`, …)."""

    transport: str
    zone: str
    port: int
    position: Position


class ServerBlock(msgspec.Struct, frozen=True, array_like=True):
    """Keys and directives, both in file order; a CIDR key has become one key per reverse zone."""

    keys: tuple[ServerKey, ...]
    directives: tuple[Directive, ...]


class Corefile(msgspec.Struct, frozen=True, array_like=True):
    """A parsed file. `digest` is the SHA-512 over the blocks with their places, after import and environment."""

    path: str
    blocks: tuple[ServerBlock, ...]
    warnings: tuple[str, ...] = ()
    digest: str = ""
