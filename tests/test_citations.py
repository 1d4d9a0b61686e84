"""Citations and links in code, tests and pages refer to existing files and headings
(docs/behaviour/README.md#how-they-are-cited).
"""

from __future__ import annotations

import re
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CITING: Final = sorted(
    [*chain.from_iterable((ROOT / folder).rglob("*.py") for folder in ("svcdns", "tests", "bench")), *PAGES]
)

CITATION: Final = re.compile(r"(?<![\w/.])docs/([\w./-]+\.md)((?:,?\s*#[\w-]+)*)")
ANCHOR: Final = re.compile(r"#([\w-]+)")
LINK: Final = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
OLD_FORM: Final = re.compile(
    r"\b[Ss]pec (?:[A-Z]\d|C-[a-z])|(?<![\w/.-])(?:[KLSM]\d{1,2}(?:-\d+)?|C-[a-z]\w*)(?=[,.;:)]|\s+(?:and|to)\b)"
)
"""A letter and a number, or a plugin's name behind a letter: sections of a document that readers do not have."""
FILE: Final = re.compile(r"(?<![\w/.-])((?:svcdns|tests|bench|tools|examples|zones)/[\w./-]*\w)(?![\w/*<{])")
MODULE: Final = re.compile(r"`(svcdns(?:\.\w+)+)`")
CODE: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


@cache
def anchors(page: Path) -> frozenset[str]:
    """Returns the anchors of a page: those that GitHub makes from headings, and those that are written in the text."""
    text = page.read_text()
    headings = re.findall(r"^#{1,6} +(.+?) *$", CODE.sub("", text), re.MULTILINE)
    words = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return frozenset(re.sub(r"[^\w\- ]", "", text).replace(" ", "-") for text in words) | frozenset(
        re.findall(r'<a id="([^"]+)">', text)
    )


def missing(path: Path, target: Path, names: list[str]) -> list[str]:
    """Returns a line for each anchor in `names` that the target lacks, or one line if the target does not exist. `path`
    is the file with the links.
    """
    where = path.relative_to(ROOT)
    if not target.exists():
        return [f"{where}: {target} is not there"]
    return [f"{where}: {target.relative_to(ROOT)}#{name} is not there" for name in names if name not in anchors(target)]


def test_cited_pages_and_anchors_exist() -> None:
    wrong: list[str] = []
    for path in CITING:
        for page, names in CITATION.findall(path.read_text()):
            wrong += missing(path, ROOT / "docs" / page, ANCHOR.findall(names))
    assert wrong == []


def test_no_text_cites_a_document_outside_the_repository() -> None:
    others = [path for path in CITING if path != Path(__file__)]
    wrong = [
        f"{path.relative_to(ROOT)}: {found[0]}" for path in others for found in OLD_FORM.finditer(path.read_text())
    ]
    assert wrong == []


def test_links_between_pages_resolve() -> None:
    wrong: list[str] = []
    for page in PAGES:
        for link in LINK.findall(CODE.sub("", page.read_text())):
            file, _, anchor = link.partition("#")
            if "://" not in file:
                wrong += missing(page, (page.parent / file).resolve() if file else page, [anchor] if anchor else [])
    assert wrong == []


def test_named_files_and_modules_exist() -> None:
    wrong: list[str] = []
    for path in CITING:
        text = path.read_text()
        wrong += [f"{path.relative_to(ROOT)}: {name}" for name in FILE.findall(text) if not (ROOT / name).exists()]
        for name in MODULE.findall(text):
            module = ROOT.joinpath(*name.split("."))
            parents = (module.parent / "__init__.py", module.parent.with_suffix(".py"))
            defined = any(one.exists() and re.search(rf"\b{module.name}\b", one.read_text()) for one in parents)
            if not (module.exists() or module.with_suffix(".py").exists() or defined):
                wrong.append(f"{path.relative_to(ROOT)}: {name}")
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("the label of an endpoint (spec K8)", ["spec K8"], id="with its document"),
        pytest.param("(K27-1)", ["K27-1"], id="without"),
        pytest.param("the tables K5 to K15.", ["K5", "K15"], id="several"),
        pytest.param("the plugin (C-cache)", ["C-cache"], id="a plugin"),
        pytest.param("the Kubernetes DNS specification, RFC 8499, 64 KiB, S3 storage", [], id="none"),
    ],
)
def test_old_form_is_recognised(text: str, found: list[str]) -> None:
    assert OLD_FORM.findall(text) == found
