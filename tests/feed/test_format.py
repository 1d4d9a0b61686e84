"""The digest of the hand-over format (docs/glossary.md)."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec

from svcdns.feed.format import handover_format, shape_digest
from svcdns.process.shared_memory import HANDOVER


def test_the_digest_does_not_depend_on_the_hash_seed() -> None:
    program = "from svcdns.feed.format import handover_format; print(handover_format())"
    other = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == handover_format()
    number, _, digest = handover_format().partition(".")
    assert int(number) == HANDOVER
    assert len(digest) == 12


def test_the_digest_is_that_of_earlier_versions() -> None:
    """Earlier versions can be upgraded in place only to the same hand-over format."""
    assert handover_format() == "2.4928935a2f90"


def frames(names: tuple[str, str], kind: type = int, docstring: str = "", *, reverse: bool = False) -> object:
    """Returns a union of two frame types. One of them contains the other."""
    inner: Any = msgspec.defstruct(
        names[0], [("first", kind), ("second", str, "")], array_like=True, frozen=True, tag="inner"
    )
    outer = msgspec.defstruct(
        names[1], [("one", inner), ("many", tuple[inner, ...])], array_like=True, frozen=True, tag="outer"
    )
    inner.__doc__ = docstring
    return outer | inner if reverse else inner | outer


def test_names_and_docstrings_do_not_change_the_digest() -> None:
    wanted = shape_digest(frames(("A", "B")))
    assert shape_digest(frames(("Z", "A"), docstring="Another text.")) == wanted
    assert shape_digest(frames(("A", "B"), reverse=True)) == wanted


def test_types_of_fields_change_the_digest() -> None:
    assert shape_digest(frames(("A", "B"), float)) != shape_digest(frames(("A", "B")))


def test_the_digest_of_a_recursive_type() -> None:
    assert len(shape_digest(Tree)) == 12
    assert shape_digest(Tree) != shape_digest(tuple[Tree, ...])


class Tree(msgspec.Struct, array_like=True):
    """A type with a field of its own type."""

    branches: tuple[Tree, ...] = ()
