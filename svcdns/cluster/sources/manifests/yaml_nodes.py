"""YAML with its places: each value knows its file and line, so that an error can say where and what was expected.

Reads documents; knows no Kubernetes. Null values count as missing, as the API server treats them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from svcdns.cluster.sources.options import SourceError

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = "tag:yaml.org,2002:null"
_INT = "tag:yaml.org,2002:int"
_BOOL = "tag:yaml.org,2002:bool"
_STR = "tag:yaml.org,2002:str"
_TRUE = ("true", "yes", "on")


class ManifestError(SourceError):
    """A manifest that cannot be used; the text names file and line and what was expected."""


class Node:
    """A value in a manifest."""

    def __init__(self, node: yaml.Node, file: str) -> None:
        """`file` as it is shown in errors."""
        self.node, self.file = node, file

    @property
    def where(self) -> str:
        """`file:line`."""
        return f"{self.file}:{self.node.start_mark.line + 1}"

    def error(self, expected: str) -> ManifestError:
        """The error that this value is not what was expected."""
        found = self.node.value if isinstance(self.node, yaml.ScalarNode) else self.node.id
        return ManifestError(f"{self.where}: found {found!r}; {expected} was expected")

    def get(self, name: str) -> Node | None:
        """A field's value; None where it is missing or null."""
        return self.fields().get(name)

    def at(self, *path: str) -> Node | None:
        """The value at the end of a path of fields; None where any step is missing."""
        here: Node | None = self
        for name in path:
            if here is None:
                return None
            here = here.get(name)
        return here

    def fields(self) -> dict[str, Node]:
        """All fields that have a value."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.error("a mapping")
        return {
            key.value: Node(value, self.file)
            for key, value in self.node.value
            if isinstance(key, yaml.ScalarNode) and value.tag != _NULL
        }

    def items(self) -> list[Node]:
        """The values of a list."""
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.error("a list")
        return [Node(value, self.file) for value in self.node.value]

    def text(self) -> str:
        """A string."""
        if not isinstance(self.node, yaml.ScalarNode) or self.node.tag in (_BOOL, _NULL):
            raise self.error("a string")
        return str(self.node.value)

    def integer(self) -> int:
        """A whole number."""
        if not isinstance(self.node, yaml.ScalarNode) or self.node.tag != _INT:
            raise self.error("a whole number")
        try:
            return int(self.node.value, 0)
        except ValueError:
            raise self.error("a whole number") from None

    @property
    def is_integer(self) -> bool:
        """Whether it is written as a number."""
        return self.node.tag == _INT

    def boolean(self) -> bool:
        """True or false."""
        if not isinstance(self.node, yaml.ScalarNode) or self.node.tag != _BOOL:
            raise self.error("true or false")
        return str(self.node.value).lower() in _TRUE

    def texts(self) -> list[str]:
        """A list of strings."""
        return [item.text() for item in self.items()]

    def labels(self) -> dict[str, str]:
        """A mapping of strings."""
        return {name: value.text() for name, value in self.fields().items()}

    # -- with a default

    def text_at(self, *path: str, default: str = "") -> str:
        """A string at a path."""
        found = self.at(*path)
        return default if found is None else found.text()

    def integer_at(self, *path: str, default: int) -> int:
        """A whole number at a path."""
        found = self.at(*path)
        return default if found is None else found.integer()

    def boolean_at(self, *path: str, default: bool = False) -> bool:
        """True or false at a path."""
        found = self.at(*path)
        return default if found is None else found.boolean()

    def items_at(self, *path: str) -> list[Node]:
        """A list at a path, empty where it is missing."""
        found = self.at(*path)
        return [] if found is None else found.items()

    def labels_at(self, *path: str) -> dict[str, str]:
        """A mapping of strings at a path, empty where it is missing."""
        found = self.at(*path)
        return {} if found is None else found.labels()


def documents(path: Path) -> Iterator[Node]:
    """The documents of a YAML or JSON file, empty ones left out. Raises ManifestError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ManifestError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not UTF-8 text: {error.reason} at octet {error.start}") from error
    try:
        for node in yaml.compose_all(text, _LOADER):
            if node is not None and node.tag != _NULL:
                yield Node(node, str(path))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        raise ManifestError(f"{path}:{line}: {error.problem or error.context or 'bad YAML'}; YAML was expected") from error
    except yaml.YAMLError as error:
        raise ManifestError(f"{path}: {' '.join(str(error).split())}; YAML was expected") from error
