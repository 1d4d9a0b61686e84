"""Finds and reads the Corefile: the named file, or else `Corefile` in the working directory, or else the built-in
one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from svcdns.corefile.arguments import warning
from svcdns.corefile.blocks import Corefile, Position
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.parser import parse
from svcdns.errors import SvcdnsError

DEFAULT_FILE: Final = "Corefile"
BUILT_IN: Final = "built-in"
"""The path of the built-in Corefile."""


class CorefileMissingError(SvcdnsError):
    """Raised if the Corefile or standard input cannot be read. `reason` states what could not be read, and why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"loading Corefile: {reason}")
        self.reason = reason


def load(path: str | None, *, environ: Mapping[str, str], default_port: int = 53) -> Corefile:
    """Returns the parsed Corefile. Raises CorefileError and CorefileMissingError.

    If `path` is `stdin`, reads standard input. If `path` is None, reads the file `Corefile` in the working directory.
    If this file does not exist, or if a file has no server block, returns the built-in Corefile. In the second case,
    the Corefile has a warning.
    """
    text, name = read_text(path)
    if text is None:
        return built_in(default_port)
    corefile = _parsed(text, name, environ, default_port)
    return corefile if corefile.blocks else without_blocks(name, default_port)


def read_text(path: str | None) -> tuple[str | None, str]:
    """Returns the text of the Corefile that `load` would parse, and its name for error messages.

    The text is None if `path` is None and there is no file `Corefile`. Raises CorefileMissingError.
    """
    if path == "stdin":
        return _standard_input(), "stdin"
    if path is None and not Path(DEFAULT_FILE).exists():
        return None, DEFAULT_FILE
    return _read(path or DEFAULT_FILE), path or DEFAULT_FILE


def _parsed(text: str, path: str, environ: Mapping[str, str], default_port: int) -> Corefile:
    try:
        return parse(text, path, environ=environ, default_port=default_port)
    except CorefileError as error:
        error.content = hashlib.sha512(text.encode()).hexdigest()
        raise


def built_in(port: int) -> Corefile:
    """Returns the Corefile that is used if there is no other: *whoami* and *log* on `port`."""
    return parse(f".:{port} {{\n    whoami\n    log\n}}\n", BUILT_IN, environ={}, default_port=port)


def without_blocks(path: str, port: int) -> Corefile:
    """Returns the built-in Corefile with a warning about the file `path`, which has no server block."""
    text = "the Corefile has no server block: whoami and log are served, as in CoreDNS"
    line = warning(Position(path, 1, 1), text)
    return msgspec.structs.replace(built_in(port), warnings=(line,))


def _standard_input() -> str:
    """Returns the whole content of standard input. If it is a file, reads it from its beginning."""
    try:
        with open(0, "rb", closefd=False) as file:
            if file.seekable():
                file.seek(0)
            return file.read().decode(errors="replace")
    except OSError as error:
        raise CorefileMissingError(f"standard input cannot be read: {error}") from error


def _read(path: str) -> str:
    try:
        return Path(path).read_bytes().decode(errors="replace")
    except OSError as error:
        raise CorefileMissingError(f"open {path}: {(error.strerror or str(error)).lower()}") from error
