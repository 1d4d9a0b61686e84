"""The digest of the hand-over format (see docs/glossary.md, hand-over)."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec

from svcdns.feed.format import handover_format, shape_digest
from svcdns.process.shared_memory import HANDOVER


def test_the_same_in_every_process() -> None:
    """The hand-over format does not depend on Python's hash seed."""
    program = "from svcdns.feed.format import handover_format; print(handover_format())"
    other = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == handover_format()
    number, _, digest = handover_format().partition(".")
    assert int(number) == HANDOVER
    assert len(digest) == 12


def test_earlier_builds_know_it() -> None:
    """The hand-over format is the one that earlier versions can be upgraded from in place."""
    assert handover_format() == "2.4928935a2f90"


def frames(names: tuple[str, str], kind: type = int, docstring: str = "", *, reverse: bool = False) -> object:
    """Returns a union of two frame types, of which one contains the other."""
    inner: Any = msgspec.defstruct(
        names[0], [("first", kind), ("second", str, "")], array_like=True, frozen=True, tag="inner"
    )
    outer = msgspec.defstruct(
        names[1], [("one", inner), ("many", tuple[inner, ...])], array_like=True, frozen=True, tag="outer"
    )
    inner.__doc__ = docstring
    return outer | inner if reverse else inner | outer


def test_names_and_docstrings_do_not_count() -> None:
    """Renamed types and fields, other docstrings and another order of the types do not change the digest of the feed
    format.
    """
    wanted = shape_digest(frames(("A", "B")))
    assert shape_digest(frames(("Z", "A"), docstring="Another text.")) == wanted
    assert shape_digest(frames(("A", "B"), reverse=True)) == wanted


def test_types_of_fields_count() -> None:
    """Another type of a field changes the hand-over format."""
    assert shape_digest(frames(("A", "B"), float)) != shape_digest(frames(("A", "B")))


def test_a_type_within_itself() -> None:
    """The shape digest of a type that refers to itself depends on the type that it refers to."""
    assert len(shape_digest(Tree)) == 12
    assert shape_digest(Tree) != shape_digest(tuple[Tree, ...])


class Tree(msgspec.Struct, array_like=True):
    """A type that contains itself."""

    branches: tuple[Tree, ...] = ()
