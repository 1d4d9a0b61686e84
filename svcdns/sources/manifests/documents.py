"""Reads YAML text as kubectl does, and records the line of every field for error messages.

Rules:

1. A file has any number of documents. A `List` object is replaced by its items.
2. A field with the value null is treated as missing. A key that occurs twice in a mapping is an error.
3. Numbers and booleans are not accepted as text, and text is not accepted as a number.
4. JSON is read as YAML.
5. Objects of unused kinds are not parsed, if their lines show the kind (`UnusedObject`). A large file is parsed in
   portions.

Source: YAML 1.1 as sigs.k8s.io/yaml reads it; Kubernetes API conventions, "Lists and simple kinds".
"""

from __future__ import annotations

import codecs
import operator
import os
import re
from bisect import insort
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import yaml

from svcdns.process.heap import collector_paused
from svcdns.sources.manifests.errors import (
    FilePosition,
    ManifestError,
    NotKubernetesError,
    NotYamlError,
    WrongTypeError,
)
from svcdns.sources.manifests.files import STANDARD_INPUT
from svcdns.sources.manifests.portions import (
    IsUnused,
    ListText,
    Portion,
    UnusedObject,
    documents_of,
    items_of,
    list_text,
)

DECODED: Final = 1 << 20
"""The number of octets that are decoded in one step."""
MAX_DEPTH: Final = 100
"""The most levels of lists and mappings; no object of Kubernetes has nearly as many."""

LARGE: Final = 1 << 16
"""The size of a text, in characters, from which on the garbage collector is paused while the text is parsed."""

RESOLVED: Final = 4096
"""The most texts of one file whose YAML types are cached."""

Field = tuple[str | int, ...]
"""The path of a field in a document: keys of mappings and indexes of lists."""

T = TypeVar("T")

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG: Final = "tag:yaml.org,2002:"
_TEXT: Final = _TAG + "str"
_NULL: Final = _TAG + "null"
_resolver: Any = yaml.resolver.Resolver()
_STEP: Final = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_MISMATCH: Final = re.compile(r"Expected `(?P<expected>[^`]+)`, got `(?P<found>[^`]+)`")
_MISSING: Final = re.compile(r"Object missing required field `(?P<field>[^`]+)`")
_WORDS: Final = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}


class Document:
    """One object of a manifest.

    `fields` has its content as plain values. `api_version` and `kind` are not empty.
    """

    def __init__(
        self, before: FilePosition, node: yaml.Node, *, default_kind: str = "", default_version: str = ""
    ) -> None:
        """Reads a YAML node. Raises ManifestError.

        The node begins in the line after `before`. `default_kind` and `default_version` are for items of lists such as
        `PodList`.
        """
        self._before = before
        self._node = node
        fields = _plain(node, before, set())
        if not isinstance(fields, dict):
            raise NotKubernetesError(
                self.position(), f"expected an object with apiVersion, kind and metadata, found {_described(fields)}"
            )
        self.fields: dict[str, Any] = fields
        self._left_out: dict[Field, list[int]] = {}
        """By the path of a list: the indexes of the items that were left out, in ascending order."""
        self.api_version = self._required_text("apiVersion", default_version)
        self.kind = self._required_text("kind", default_kind)

    def position(self, field: Field = ()) -> FilePosition:
        """Returns the line of a field. If the field is missing, returns the line of the nearest existing parent."""
        return _below(self._before, _node_at(self._node, self._written(field)))

    def error(self, field: Field, text: str) -> ManifestError:
        """Returns an error about a field, for the caller to raise."""
        field = self._written(field)
        name = _shown(field)
        return ManifestError(_below(self._before, _node_at(self._node, field)), f"{name}: {text}" if name else text)

    def convert(self, shape: type[T], refuse: Callable[[WrongTypeError], None]) -> T:
        """Converts the fields to `shape`, a msgspec.Struct.

        Leaves out a value that only has too many quotes, or too few, for its type. If the field is required, leaves out
        its parent. Calls `refuse` for each of them. Raises ManifestError for any other value of a wrong type.
        """
        reason: ManifestError | None = None
        last: Field = ()
        part = ""

        def report() -> None:
            if reason is not None:
                refuse(WrongTypeError(reason.position, f"{reason.text}; {part} is left out"))

        while True:
            try:
                out = msgspec.convert(self.fields, shape)
            except msgspec.ValidationError as error:
                field, text, is_quoting = self._mismatch(str(error))
            else:
                report()
                return out
            if reason is None or field != last[:-1]:  # else: the field that was left out is required
                report()
                reason = self.error(field, text)
                if not is_quoting:
                    raise reason
            if not field:
                raise reason
            part, last = _shown(self._written(field)), field
            self._leave_out(field)

    def _leave_out(self, field: Field) -> None:
        """Removes a field, or an item of a list."""
        written = self._written(field)
        *above, step = field
        parent: Any = self.fields
        for one in above:
            parent = parent[one]
        del parent[step]
        if isinstance(written[-1], int):
            insort(self._left_out.setdefault(written[:-1], []), written[-1])

    def _written(self, field: Field) -> Field:
        """Returns the path of a field in the manifest, in which no item of a list is left out."""
        out: Field = ()
        for step in field:
            out = (*out, step if isinstance(step, str) else self._written_index(out, step))
        return out

    def _written_index(self, path: Field, index: int) -> int:
        for gone in self._left_out.get(path, ()):
            index += index >= gone
        return index

    def items(self, first: int = 0) -> Iterator[Document | ManifestError]:
        """Yields the items of a List from index `first` on, or the document itself if it is not a List.

        An item that cannot be used is yielded as an error.
        """
        if not self.kind.endswith("List") or "items" not in self.fields:
            yield self
            return
        found = _child(self._node, "items")
        if found is None or not isinstance(found[1], yaml.SequenceNode):
            yield NotKubernetesError(self.position(("items",)), "items: expected a list")
            return
        for item in found[1].value[first:]:
            yield self.item(self._before, item)

    def item(self, before: FilePosition, node: yaml.Node) -> Document | ManifestError:
        """Returns an item of this List, or an error if the item cannot be used.

        The text of the item begins in the line after `before`.
        """
        kind, version = self.kind.removesuffix("List"), self.api_version if self.kind != "List" else ""
        try:
            document = Document(before, node, default_kind=kind, default_version=version)
        except ManifestError as error:
            return error
        if document.kind.endswith("List") and "items" in document.fields:
            return document.error((), "expected an object, found a List inside a List")
        return document

    def _required_text(self, field: str, default: str) -> str:
        found = self.fields.get(field, default)
        if not isinstance(found, str) or not found:
            at = self.position((field,) if field in self.fields else ())
            raise NotKubernetesError(at, f"expected the text of {field}")
        return found

    def _mismatch(self, message: str) -> tuple[Field, str, bool]:
        """Returns the path of the field that a message of msgspec is about, and a text about the field.

        If a required field is missing, the path is that of its parent. The third value is True if only quotes are
        missing, or are too many.
        """
        problem, _, path = message.partition(" - at ")
        field: Field = tuple(
            int(index) if index else key for key, index in _STEP.findall(path.removesuffix("[...]`").strip("`"))
        )
        value: Any = self.fields
        for step in field:
            value = value[step]
        if path.endswith("[...]`"):  # the message does not name the key
            key, value = next((key, value) for key, value in value.items() if not isinstance(value, str))
            field = (*field, key)
        if missing := _MISSING.match(problem):
            return field, f"expected {missing['field']}, which is missing", False
        if mismatch := _MISMATCH.match(problem):
            expected = " or ".join(
                _WORDS.get(word, word) for word in mismatch["expected"].removesuffix(" | null").split(" | ")
            )
            return field, f"expected {expected}, found {_described(value)}", _is_quoting(mismatch["expected"], value)
        return field, problem, False


def _is_quoting(expected: str, value: Any) -> bool:
    """Returns True if `value` would have the type `expected` with quotes, or without them."""
    if not isinstance(value, str):
        return isinstance(value, int | float) and "str" in expected
    try:
        msgspec.convert(value, int if "int" in expected else bool if "bool" in expected else type(None), strict=False)
    except msgspec.ValidationError:
        return False
    return True


def _shown(field: Field) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in field).lstrip(".")


def documents(
    path: str, *, default_kind: str = "", default_version: str = "", is_unused: IsUnused | None = None
) -> Iterator[Document | UnusedObject | ManifestError]:
    """Yields the objects of a file. A List is replaced by its items.

    A document that cannot be used is yielded as an error. A NotYamlError is the last item. Objects for which
    `is_unused` returns True need not be parsed.
    """
    try:
        text = text_of(path)
    except ManifestError as error:
        yield error
        return
    whole = Portion(text, 0)
    yield from documents_in(
        path, whole, default_kind=default_kind, default_version=default_version, is_unused=is_unused
    )


def documents_in(
    path: str,
    part: Portion | ListText,
    *,
    default_kind: str = "",
    default_version: str = "",
    is_unused: IsUnused | None = None,
) -> Iterator[Document | UnusedObject | ManifestError]:
    """Yields the objects of a part of the file `path`, as `documents` does for a whole file.

    Raises ManifestError or ValueError if items of a List cannot be parsed without the rest of the List.
    """
    file = FilePosition(path)
    large = len(part.text if isinstance(part, Portion) else part.items.text) >= LARGE
    with collector_paused() if large else nullcontext():
        try:
            if isinstance(part, ListText):
                yield from _items(file, part, is_unused)
                return
            for portion in documents_of(part, is_unused):
                if isinstance(portion, UnusedObject):
                    yield portion.of(file)
                    continue
                items = list_text(portion) if is_unused is not None else None
                if items is not None:
                    yield from _list(file, portion, items, is_unused)
                    continue
                for node in _nodes(file, portion):
                    if node.tag != _NULL:
                        yield from _objects(_before(file, portion), node, default_kind, default_version)
        except NotYamlError as error:
            if isinstance(part, ListText):
                raise
            yield error
        finally:
            _resolve.cache_clear()


def _objects(
    before: FilePosition, node: yaml.Node, default_kind: str = "", default_version: str = "", first: int = 0
) -> Iterator[Document | ManifestError]:
    try:
        document = Document(before, node, default_kind=default_kind, default_version=default_version)
    except ManifestError as error:
        yield error
    else:
        yield from document.items(first)


def _list(
    file: FilePosition, portion: Portion, text: ListText, is_unused: IsUnused | None
) -> Iterator[Document | UnusedObject | ManifestError]:
    """Yields the items of a List. The List is parsed in portions, or as a whole if a portion is not valid YAML."""
    count = 0
    try:
        for item in _items(file, text, is_unused):
            yield item
            count += 1
    except (ManifestError, ValueError):
        for node in _nodes(file, portion):
            if node.tag != _NULL:
                yield from _objects(_before(file, portion), node, first=count)
                count = 0


def _items(
    file: FilePosition, text: ListText, is_unused: IsUnused | None
) -> Iterator[Document | UnusedObject | ManifestError]:
    """Yields the items of a List, which is parsed in portions.

    Raises ManifestError or ValueError if a portion is not valid YAML.
    """
    (node,) = _nodes(file, text.outside)
    above = Document(_before(file, text.outside), node)
    for part in items_of(text, is_unused):
        if isinstance(part, UnusedObject):
            yield part.of(file)
            continue
        (sequence,) = _nodes(file, part)
        for item in sequence.value:
            yield above.item(_before(file, part), item)


def _before(file: FilePosition, portion: Portion) -> FilePosition:
    return FilePosition(file.path, portion.line)


def _nodes(file: FilePosition, portion: Portion) -> Iterator[yaml.Node]:
    """Yields the YAML documents of a text. Raises NotYamlError."""
    before = _before(file, portion)
    try:
        loader = _Loader(portion.text)
        loader.resolve = _resolve
        # These methods serve only types that depend on a path. Built-in functions without effect take their place.
        loader.descend_resolver, loader.ascend_resolver = operator.is_, bool
        while loader.check_node():
            yield loader.get_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = before.line + mark.line + 1 if mark else 0
        raise NotYamlError(FilePosition(file.path, line), f"expected YAML: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        line = before.line + portion.text.count("\n", 0, error.position) + 1
        raise NotYamlError(FilePosition(file.path, line), f"expected YAML: {error.reason}") from None


@lru_cache(RESOLVED)
def _resolve(kind: type[yaml.Node], value: str | None, implicit: tuple[bool, bool] | bool) -> str:
    """Returns the YAML tag of a node for which the text has no tag."""
    if kind is yaml.ScalarNode and value is not None:
        if isinstance(implicit, tuple) and not implicit[0]:
            return _TEXT
        tag: str = _resolver.resolve(yaml.ScalarNode, value, (True, False))
        return tag
    return _TAG + ("seq" if kind is yaml.SequenceNode else "map")


def text_of(path: str) -> str:
    """Returns the text of a file, or of standard input if the path is `-`. Raises ManifestError."""
    try:
        content = _standard_input() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise ManifestError(FilePosition(path), f"{error.strerror}; a readable file was expected") from None
    try:
        return _decoded(content)
    except UnicodeDecodeError as error:
        raise NotYamlError(
            FilePosition(path, content.count(b"\n", 0, error.start) + 1), f"expected UTF-8 text: {error.reason}"
        ) from None


def _decoded(content: bytes) -> str:
    """Decodes UTF-8 text in steps, so that other threads can run between the steps. Raises UnicodeDecodeError."""
    decoder, begins = codecs.getincrementaldecoder("utf-8-sig")(), range(0, len(content), DECODED)
    try:
        return "".join([*(decoder.decode(content[n : n + DECODED]) for n in begins), decoder.decode(b"", final=True)])
    except UnicodeDecodeError:
        return content.decode("utf-8-sig")  # raises the error with the offset in the whole content


def _standard_input() -> bytes:
    """Returns all octets of standard input, which is a file in memory, from its beginning."""
    content = b""
    while portion := os.pread(STANDARD_INPUT, 1 << 20, len(content)):
        content += portion
    return content


_construct: Any = yaml.constructor.SafeConstructor()


def _plain(node: yaml.Node, before: FilePosition, above: set[int]) -> Any:
    """Returns a node's value as dict, list, str, int, float, bool or None.

    `above` has the ids of the nodes that contain this node. An alias of one of them is an error.
    """
    if isinstance(node, yaml.ScalarNode):
        return node.value if node.tag == _TEXT else _scalar(node, before)
    if id(node) in above:
        raise NotKubernetesError(_below(before, node), "expected a value, found an alias of a node that contains it")
    if len(above) >= MAX_DEPTH:
        raise NotKubernetesError(_below(before, node), f"expected at most {MAX_DEPTH} levels of lists and mappings")
    above.add(id(node))
    plain: Any
    if isinstance(node, yaml.SequenceNode):
        plain = [_plain(item, before, above) for item in node.value]
    else:
        _flatten(node, before)
        plain = {}
        for key, value in node.value:
            is_text = value.tag == _TEXT and isinstance(value, yaml.ScalarNode)
            item = value.value if is_text else _plain(value, before, above)
            if item is not None:
                plain[key.value] = item
    above.discard(id(node))
    return plain


def _flatten(node: Any, before: FilePosition) -> None:
    """Checks the keys of a mapping node, and merges the mappings under its key `<<` into the node."""
    keys = {key.value for key, _ in node.value if key.tag == _TEXT and isinstance(key, yaml.ScalarNode)}
    if len(keys) == len(node.value):  # all are text and differ, as in nearly every mapping
        return
    if getattr(node, "flattened", False):
        return
    lines: dict[str, int] = {}
    for key, _ in node.value:
        at = _below(before, key)
        if not isinstance(key, yaml.ScalarNode):
            raise NotYamlError(at, "expected text as the key of a mapping")
        if key.value in lines and key.tag != _TAG + "merge":
            raise NotKubernetesError(at, f"expected each key once, {key.value!r} is in line {lines[key.value]} already")
        lines[key.value] = at.line
    try:
        _construct.flatten_mapping(node)
    except yaml.MarkedYAMLError as error:
        raise NotKubernetesError(_below(before, node), f"expected YAML: {error.problem}") from None
    # If a key is both merged and written, the last one counts, also where `_child` looks for the key.
    node.value = list(
        {key.value: (key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)}.values()
    )
    node.flattened = True


def _scalar(node: yaml.ScalarNode, before: FilePosition) -> Any:
    kind = node.tag.removeprefix(_TAG)
    # YAML 1.1 reads text such as 1:30 as a number in base 60; Kubernetes does not.
    if kind not in {"null", "bool", "int", "float"} or (kind in {"int", "float"} and ":" in node.value):
        return node.value
    try:
        return getattr(_construct, f"construct_yaml_{kind}")(node)
    except (ValueError, KeyError):
        raise NotKubernetesError(
            _below(before, node), f"expected a value of type {kind}, found {node.value!r}"
        ) from None


def _child(node: yaml.Node, step: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """Returns the position node and the value node of the child `step`, a key or an index.

    The position node is the key in a mapping, or the item in a sequence. Returns None if there is no such child.
    """
    if isinstance(node, yaml.MappingNode):
        return next((pair for pair in node.value if pair[0].value == step), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None


def _node_at(node: yaml.Node, field: Field) -> yaml.Node:
    """Returns the node of a field's key or of a list item.

    If the field is missing, returns the node of the nearest existing parent.
    """
    shown = node
    for step in field:
        found = _child(node, step)
        if found is None:
            break
        shown, node = found
    return shown


def _below(before: FilePosition, node: yaml.Node) -> FilePosition:
    return FilePosition(before.path, before.line + node.start_mark.line + 1)


def _described(value: object) -> str:
    """Returns a description of a value for an error: its type, and the value if it is short."""
    if isinstance(value, bool):
        return str(value).lower()
    word = _WORDS[{list: "array", dict: "object", type(None): "null"}.get(type(value), type(value).__name__)]
    return f"{word} {value!r}" if isinstance(value, str | int | float) and len(str(value)) <= 40 else word
