"""Private words stay out of names: identifiers, files, metrics and options use the words of RFC 9499, Kubernetes and
other name servers.

`docs/glossary.md` has the words of the project itself. This test does not check prose.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from svcdns.telemetry.counters import Family
from tests.test_project_shape import MODULES, ROOT

BANNED = frozenset(
    re.findall(
        r"\w+",
        """
        aboard absent alarm alarms alike audience beat beaten beats breathe breaths brought buried bury crew dear desk
        desks doubt doubted doubting doubts dying ending endings facts farewell flight flights fold folded folding
        folds forgetful greeter heir heirs inherit inherited inheriting keeper keepers landed leaving mail mailbox
        manner noting owed parcel parted parting passenger passengers patience personal pulse pulses relay relayed
        relays sighted sighting tallies tally team teams told touched turned turning young
        """,
    )
)
"""Words that stood for something that the field has a word for."""

TERMS = (("in", "flight"), ("single", "flight"), ("told", "apart"))
"""Terms of the field that have one of the words in them."""

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def words(name: str) -> list[str]:
    """Returns the words of an identifier in lower case: `FastPathQuery` and `fast_path_query` have the same three."""
    return [word.lower() for part in name.split("_") for word in WORD.findall(part)]


def private(name: str) -> set[str]:
    """Returns the banned words in a name."""
    found = words(name)
    for term in TERMS:
        while term in (pairs := list(pairwise(found))):
            at = pairs.index(term)
            del found[at : at + 2]
    return set(found) & BANNED


def identifiers(path: Path) -> Iterator[tuple[str, int]]:
    """Yields each name of a function, class, parameter, variable or attribute that a module defines, with its line."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno


@pytest.mark.parametrize("folder", ["svcdns", "bench", "tests", "examples"])
def test_identifiers_have_no_private_words(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name, line in identifiers(path)
        if private(name)
    ]
    assert not found, "\n".join(found)


def test_file_names_have_no_private_words() -> None:
    files = [
        path
        for folder in ("svcdns", "bench", "tests", "docs")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".md")
    ]
    found = [str(path.relative_to(ROOT)) for path in files if private(path.stem.replace("-", "_"))]
    assert not found, "\n".join(found)


def test_metrics_and_labels_have_no_private_words() -> None:
    """The rule includes CoreDNS's metrics."""
    families = {
        value
        for name in MODULES
        if not name.endswith("__main__")
        for value in vars(importlib.import_module(name)).values()
        if isinstance(value, Family)
    }
    found = [name for family in families for name in (family.name, *family.labels) if private(name)]
    assert families
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        pytest.param("FastPathQuery", set(), id="a word of ours"),
        pytest.param("_note_endings", {"endings"}, id="in an identifier"),
        pytest.param("TlsGreeter", {"greeter"}, id="in a class"),
        pytest.param("MAX_TALLIES", {"tallies"}, id="in a constant"),
        pytest.param("MAX_IN_FLIGHT", set(), id="a term of the field"),
        pytest.param("heartbeat", set(), id="a longer word"),
    ],
)
def test_only_whole_words_are_found(name: str, found: set[str]) -> None:
    assert private(name) == found


MAX_SENTENCE = 30
"""The largest number of words in a sentence of a docstring."""
PRONOUNS = frozenset({"It", "Its", "Their", "Them", "They"})
"""Words that do not begin a sentence of a docstring, because their noun may be unclear to a reader."""
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def sentences(docstring: str) -> Iterator[str]:
    """Yields the sentences of a docstring, and the parts of sentences before and after a colon. Ignores examples."""
    for paragraph in docstring.split("\n\n"):
        for item in re.split(r"\n(?=- |\d+\. )", paragraph):
            text = re.sub(r"^(- |\d+\. )", "", item)
            if "\n    " not in text and "```" not in text and "  " not in text.replace("\n  ", "\n"):
                yield from re.split(r"(?<=[.:;?!])\s+", text)


def faults(docstring: str) -> list[str]:
    """Returns the sentences of a docstring that are too long or begin with a pronoun."""
    return [
        sentence
        for sentence in sentences(docstring)
        if sentence and (len(sentence.split()) > MAX_SENTENCE or sentence.split(maxsplit=1)[0] in PRONOUNS)
    ]


@pytest.mark.parametrize("folder", ["svcdns", "bench"])
def test_sentences_of_docstrings(folder: str) -> None:
    """No sentence of a docstring is too long, or begins with a pronoun."""
    found = [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}: {fault}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, DOCUMENTED)
        for fault in faults(ast.get_docstring(node) or "")
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("docstring", "found"),
    [
        pytest.param("Returns a name. The name is absolute.", [], id="nouns"),
        pytest.param("Returns a name. It is absolute.", ["It is absolute."], id="a pronoun"),
        pytest.param("Options:\n\n- `a`.\n- `b` is a name. They\n  end.", ["They\n  end."], id="in a list"),
        pytest.param(f"Two.\n\n{'word ' * 30}end.", [f"{'word ' * 30}end."], id="a long sentence"),
        pytest.param(f"Two.\n\n    {'word ' * 30}end.", [], id="an example"),
    ],
)
def test_faults_of_docstrings(docstring: str, found: list[str]) -> None:
    """A fault is found in paragraphs and lists. Examples are ignored."""
    assert faults(docstring) == found
