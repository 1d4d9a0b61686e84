"""The documentation site: its navigation, the copies of pages that Zensical reads, and the checks of built pages."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from svcdns.__main__ import TOOLS
from svcdns.inspection import size
from tools import docs_site, release

ROOT = Path(__file__).parents[2]
NAVIGATION = list(docs_site.navigation(docs_site.settings(ROOT)))


def test_every_page_is_in_the_navigation_once() -> None:
    assert sorted(NAVIGATION) == sorted(docs_site.pages(ROOT).values())


def test_the_list_of_plugins_has_their_own_descriptions() -> None:
    rows = dict(re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| (.+) \|$", (ROOT / "docs/plugins/README.md").read_text(), re.M))
    pages = {path.stem: path.read_text() for path in (ROOT / "docs" / "plugins").glob("*.md") if path.stem != "README"}
    assert rows.keys() == pages.keys()
    names = {name: text.partition("## Name\n\n")[2].replace("\n", " ") for name, text in pages.items()}
    assert [name for name, row in rows.items() if not names[name].startswith(f"*{name}* - {row}")] == []


def test_the_page_of_tools_has_every_command() -> None:
    page = (ROOT / "docs" / "tools.md").read_text()
    assert [name for name in (*TOOLS, "conformance", "demo") if f"svcdns {name}" not in page] == []


def test_the_list_of_runbooks_is_that_of_the_navigation() -> None:
    listed = re.findall(r"^\| \[\w+\]\((\w+\.md)\)", (ROOT / "docs/runbooks/README.md").read_text(), re.MULTILINE)
    assert [f"runbooks/{name}" for name in listed] == [page for page in NAVIGATION if "runbooks/Svcdns" in page]


MEASURES = {
    "hit": "hit | CPU per answer, µs",
    "cold": "cold | CPU per answer, µs",
    "miss": "miss | CPU per answer, µs",
    "forward": "forward | CPU per answer, µs",
    "with log": "forward | CPU per answer, with hosts and log, µs",
    "latency": "latency | plain, p99, ms",
    "relist": "latency | relist, p99, ms",
    "memory": "memory | 10,000 × 10, all names queried, MiB",
    "change": "change | to answer, 10,000 Services, p50, ms",
    "start": "start | CPU to ready, empty cluster, s",
}


@pytest.mark.parametrize(
    ("page", "first", "second", "names"),
    [
        ("README.md", "svcdns", "CoreDNS", ["hit", "miss", "forward", "relist", "memory", "change", "start"]),
        (
            "docs/index.md",
            "svcdns",
            "CoreDNS",
            ["hit", "miss", "forward", "latency", "relist", "memory", "change", "start"],
        ),
        (
            "docs/comparison.md",
            "CoreDNS",
            "svcdns",
            ["change", "hit", "cold", "forward", "with log", "start", "memory"],
        ),
    ],
)
def test_figures_are_those_of_the_page_performance(page: str, first: str, second: str, names: list[str]) -> None:
    """The pages round the figures of the table *From the first query*."""
    page_of_figures = (ROOT / "docs" / "performance.md").read_text()
    performance = page_of_figures.partition("### From the first query")[2].partition("\n### ")[0]
    number = r"(?:after )?([\d.]+) (?:µs|ms|s|MiB)"
    rows = re.findall(rf"^\| [^|]+ \| {number} \| {number} \|", (ROOT / page).read_text(), re.MULTILINE)
    assert len(rows) == len(names)
    for name, row in zip(names, rows, strict=True):
        cells = rf"^\| {re.escape(MEASURES[name])} \| ([\d.]+) \| [^|]+ \| [^|]+ \| ([\d.]+) \|"
        ((svcdns, coredns),) = re.findall(cells, performance, re.MULTILINE)
        measured = {"svcdns": svcdns, "CoreDNS": coredns}
        for shown, server in zip(row, (first, second), strict=True):
            digits = len(shown.partition(".")[2])
            assert float(shown) == round(float(measured[server]), digits), f"{name}: {server}"


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.svg")), ids=lambda path: path.name)
def test_pictures_have_dark_colours_and_need_no_other_file(path: Path) -> None:
    text = path.read_text()
    root = ElementTree.fromstring(text)
    assert root.attrib["viewBox"]
    assert "@media (prefers-color-scheme:dark)" in text.replace("scheme: ", "scheme:")
    assert "href" not in text
    assert "url(" not in text.replace("url(#", "")


@pytest.mark.parametrize(
    ("link", "moved"),
    [
        ("[a](check.md#c)", "[a](check.md#c)"),
        ("[a](#c)", "[a](#c)"),
        ("[a](https://example.org/x.md)", "[a](https://example.org/x.md)"),
        ("[a](../CHANGELOG.md)", "[a](release-notes.md)"),
        ("![a](charts/x.svg)", "![a](charts/x.svg)"),
        ("[a `b`](../deploy/rules.yaml)", "[a `b`](files/deploy/rules.yaml)"),
        ("[deploy](../deploy)", "deploy"),
        ("[plugins](plugins)", "[plugins](plugins/README.md)"),
        ("```\n[a](../CHANGELOG.md)\n```\n", "```\n[a](../CHANGELOG.md)\n```\n"),
    ],
)
def test_links_that_leave_the_pages(tmp_path: Path, link: str, moved: str) -> None:
    """Links in code blocks stay as they are. Linked files of the repository are copied."""
    for name in ("docs/charts/x.svg", "deploy/rules.yaml", "CHANGELOG.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "docs" / "plugins").mkdir()
    known = {
        "docs/cache.md": "cache.md",
        "docs/check.md": "check.md",
        "docs/plugins/README.md": "plugins/README.md",
    } | docs_site.ROOT_PAGES
    copies = tmp_path / "copies"
    assert docs_site.moved_links(link, "docs/cache.md", known, tmp_path, copies) == moved
    assert (copies / "files/deploy/rules.yaml").exists() == ("files/" in moved)


@pytest.mark.parametrize(
    ("link", "absolute", "text"),
    [
        ("[a](https://x.example/)", "[a](https://x.example/)", "[a](https://x.example/)"),
        ("[a](docs/check.md#memory)", "[a](https://s.example/d/check.html#memory)", "a"),
        ("[a](docs/plugins/README.md)", "[a](https://s.example/d/plugins/index.html)", "a"),
        ("[a](CONTRIBUTING.md)", "[a](https://s.example/d/contributing.html)", "a"),
        ("![a\nb](docs/pictures/x.svg)", "![a\nb](https://s.example/d/pictures/x.svg)", ""),
        ("[`a`](zones/cluster.yaml)", "[`a`](https://s.example/d/files/zones/cluster.yaml)", "`a`"),
    ],
)
def test_links_of_the_readme_on_a_package_index(link: str, absolute: str, text: str) -> None:
    assert release.index_readme(link, docs_site.pages(ROOT), "https://s.example/d/") == absolute
    assert release.index_readme(link, docs_site.pages(ROOT), "") == text


@pytest.mark.parametrize(
    ("text", "wide"),
    [
        ("- a\n  - b\n    - c\n", "- a\n    - b\n        - c\n"),
        ("- a\n  goes on\n\n  more\n", "- a\n    goes on\n\n    more\n"),
        ("- a\n  goes on\n  - b\n- c\n", "- a\n    goes on\n\n    - b\n\n- c\n"),
        ("* a\n\n  more\n* b\n", "* a\n\n    more\n\n* b\n"),
        ("1. a\n   1. b\n", "1. a\n    1. b\n"),
        ("- a\n\ntext\n  text\n", "- a\n\ntext\n  text\n"),
        ("- a\n\n```\n  code\n```\n", "- a\n\n```\n  code\n```\n"),
    ],
)
def test_nested_lists_get_four_spaces(text: str, wide: str) -> None:
    assert docs_site.wide_lists(text) == wide


def test_the_sizing_page_and_its_calculator_have_the_figures_of_the_command() -> None:
    page = (ROOT / "docs" / "sizing.md").read_text()
    rows = re.findall(r"^\| ([\d,]+) \| ([\d,]+) \| (\d+) \| (\d+) MiB \| (\d+) MiB \|$", page, re.MULTILINE)
    assert len(rows) == 5
    for row in rows:
        services, endpoints, workers, *shown = (int(text.replace(",", "")) for text in row)
        assert [octets >> 20 for octets in size.estimate(services, endpoints, workers)] == shown
    assert size.estimate(10_000, 60_000).limit >> 20 < 170
    script = (ROOT / "site" / "assets" / "size.js").read_text()
    figures = {name: int(value) for name, value in re.findall(r"\b([A-Z]+) = (\d+)[,;]", script)}
    assert figures == {name: getattr(size, f"_{name}") for name in ("BASE", "SERVICE", "ENDPOINT", "WORKER")}


def test_problems_of_built_pages(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(
        '<a id="here" href="#here">x</a> <a href="#gone">x</a> <a href="other.html#there">x</a> <a href="lost.html">x</a>'
        '<a href="https://example.org/">x</a> <img src="//example.org/x.png"> <script src="https://example.org/x.js">'
        '</script> <p>`a`\n- **b</p> <pre>\n- a **b**</pre> <link rel="stylesheet" href="site.css">'
    )
    (tmp_path / "other.html").write_text('<h2 id="there">x</h2> <a href="page.html#here">x</a>')
    (tmp_path / "site.css").write_text("@import 'https://example.org/x.css'; a { background: url(data:,x) }")
    assert sorted(docs_site.problems(tmp_path)) == [
        "page.html: Markdown in the text: - **b",
        "page.html: link to a missing anchor: #gone",
        "page.html: link to a missing file: lost.html",
        "page.html: outside asset //example.org/x.png",
        "page.html: outside asset https://example.org/x.js",
        "site.css: outside asset https://example.org/x.css",
    ]
