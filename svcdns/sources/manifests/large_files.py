"""Parses large manifest files in separate processes.

A thread that parses YAML would stop control's event loop again and again. So each large file is divided into parts, and
a process parses each part. The command of such a process is `svcdns.sources.manifests.large_files PATH NAMESPACE`. If a
process fails, control parses the file itself.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from svcdns.errors import UNDECODABLE
from svcdns.process import isolated
from svcdns.process.capacity import processors
from svcdns.process.heap import collector_paused
from svcdns.sources.manifests import kinds
from svcdns.sources.manifests.documents import documents_in, text_of
from svcdns.sources.manifests.errors import (
    FilePosition,
    ManifestError,
    NotKubernetesError,
    NotYamlError,
    WrongTypeError,
)
from svcdns.sources.manifests.kinds import FileContent, ManifestObject, ObjectName, Parsed
from svcdns.sources.manifests.portions import ListText, Portion, divided
from svcdns.sources.manifests.schemas import ObjectMeta

LARGE_FILE: Final = 1 << 20
"""A file of this size in octets, or a larger one, is parsed by other processes."""
MAX_PROCESSES: Final = 4
"""The most processes that parse one file at a time."""
BATCH: Final = 32
"""The number of objects that are decoded in one call, so that other threads need not wait long."""

_NONE: Final = msgspec.msgpack.encode(None)


class _Part(msgspec.Struct, array_like=True):
    """A part of a file. `outside` is the text of a List without its items, or empty if the part is not a List."""

    text: str
    line: int
    outside: str
    outside_line: int
    column: int


class _Error(msgspec.Struct, array_like=True):
    """An error in a manifest. `kind` is the index of its class in `_ERRORS`."""

    kind: int
    line: int
    text: str


class _Object(msgspec.Struct, array_like=True):
    """An object of a manifest. `metadata` and `body` are null for a kind that is not used."""

    line: int
    kind: str
    namespace: str
    name: str
    metadata: ObjectMeta | None
    body: msgspec.Raw


class _LeftOut(msgspec.Struct, array_like=True):
    """An object that cannot be served, and the reason."""

    kind: str
    namespace: str
    name: str
    reason: _Error


class _Result(msgspec.Struct, array_like=True):
    """The content of a part of a file. Each element of `objects` is a list of `_Object`."""

    objects: list[msgspec.Raw]
    skipped: list[_Error]
    ignored: list[_Error]
    errors: list[_Error]
    refused: list[_Error]
    left_out: list[_LeftOut]
    not_yaml: _Error | None


_ERRORS: Final = (ManifestError, NotKubernetesError, NotYamlError, WrongTypeError)
_DECODERS: Final = {kind: msgspec.msgpack.Decoder(shape) for kind, shape in kinds.SHAPES.items()}
_objects: Final = msgspec.msgpack.Decoder(list[_Object])


def read(path: str, namespace: str) -> FileContent:
    """Reads a large file, as `kinds.read` does. Blocks. Errors are in the result; none is raised."""
    try:
        text = text_of(path)
        with collector_paused():
            return kinds.content(path, [*_parsed(path, namespace, divided(text, _processes(len(text))))])
    except (ManifestError, OSError, subprocess.SubprocessError, *UNDECODABLE):
        return kinds.read(path, namespace)


def _processes(size: int) -> int:
    """Returns the number of processes for a text of `size` characters."""
    return max(1, min(MAX_PROCESSES, processors(), size // LARGE_FILE))


def _parsed(path: str, namespace: str, parts: Sequence[Portion | ListText]) -> Iterable[Parsed]:
    """Starts one process for each part, and yields the parsed parts in order."""
    command = isolated.command("svcdns.sources.manifests.large_files", path, namespace)
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL) for _ in parts]
    try:
        for process, part in zip(processes, parts, strict=True):
            assert process.stdin is not None
            process.stdin.write(encode_part(part))
            process.stdin.close()
        for process in processes:
            assert process.stdout is not None
            result = process.stdout.read()
            if process.wait() != 0:
                raise subprocess.SubprocessError(f"parsing ended with code {process.returncode}")
            yield decode_result(path, result)
    finally:
        for process in processes:
            process.kill()  # without effect on a process that has ended
            with process:  # closes the pipes, and waits for the end
                pass


def encode_part(part: Portion | ListText) -> bytes:
    """Returns the octets that a process gets on its standard input."""
    if isinstance(part, Portion):
        return msgspec.msgpack.encode(_Part(part.text, part.line, "", 0, 0))
    text, outside = part.items, part.outside
    return msgspec.msgpack.encode(_Part(text.text, text.line, outside.text, outside.line, part.column))


def parse_part(path: str, namespace: str, encoded: bytes) -> bytes:
    """Parses a part of the file `path`. Returns the octets that a process writes to its standard output.

    Raises ManifestError or ValueError if the part cannot be parsed without the rest of the file.
    """
    part = msgspec.msgpack.decode(encoded, type=_Part)
    text = Portion(part.text, part.line)
    found = ListText(Portion(part.outside, part.outside_line), text, part.column) if part.outside else text
    parsed = kinds.parse(path, documents_in(path, found, is_unused=kinds.is_unused), namespace)
    return msgspec.msgpack.encode(_result(parsed))


def decode_result(path: str, encoded: bytes) -> Parsed:
    """Decodes the result of `parse_part`.

    Raises the exceptions of msgspec if the octets are not such a result.
    """
    result = msgspec.msgpack.decode(encoded, type=_Result)

    def error(found: _Error) -> ManifestError:
        return _ERRORS[found.kind](FilePosition(path, found.line), found.text)

    not_yaml = error(result.not_yaml) if result.not_yaml is not None else None
    return Parsed(
        [_object(path, found) for batch in result.objects for found in _objects.decode(batch)],
        [*map(error, result.skipped)],
        [*map(error, result.ignored)],
        [*map(error, result.errors)],
        [*map(error, result.refused)],
        {ObjectName(found.kind, found.namespace, found.name): error(found.reason) for found in result.left_out},
        not_yaml if isinstance(not_yaml, NotYamlError) else None,
    )


def _object(path: str, found: _Object) -> ManifestObject:
    body = None if found.metadata is None else _DECODERS[found.kind].decode(found.body)
    metadata = found.metadata or kinds.NO_METADATA
    return ManifestObject(FilePosition(path, found.line), found.kind, found.namespace, found.name, metadata, body)


def _result(parsed: Parsed) -> _Result:
    def error(found: ManifestError) -> _Error:
        return _Error(_ERRORS.index(type(found)), found.position.line, found.text)

    encode = msgspec.msgpack.encode
    objects = [*map(_to_send, parsed.objects)]
    return _Result(
        [msgspec.Raw(encode(objects[begin : begin + BATCH])) for begin in range(0, len(objects), BATCH)],
        [*map(error, parsed.skipped)],
        [*map(error, parsed.ignored)],
        [*map(error, parsed.errors)],
        [*map(error, parsed.refused)],
        [_LeftOut(*name, error(reason)) for name, reason in parsed.left_out.items()],
        error(parsed.not_yaml) if parsed.not_yaml is not None else None,
    )


def _to_send(item: ManifestObject) -> _Object:
    line = item.position.line
    if item.body is None:
        return _Object(line, item.kind, item.namespace, item.name, None, msgspec.Raw(_NONE))
    body = msgspec.Raw(msgspec.msgpack.encode(item.body))
    return _Object(line, item.kind, item.namespace, item.name, item.metadata, body)


def main() -> int:
    """Parses the part of a file on standard input, and writes its content to standard output."""
    _, path, namespace = sys.argv
    gc.disable()  # the process ends before its reference cycles could take much memory
    try:
        sys.stdout.buffer.write(parse_part(path, namespace, sys.stdin.buffer.read()))
    except (ManifestError, ValueError):
        return 1  # control parses the file in one piece, and reports the error
    sys.stdout.flush()
    os._exit(0)  # without the time for freeing the memory


if __name__ == "__main__":
    sys.exit(main())
