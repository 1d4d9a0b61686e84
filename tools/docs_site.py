"""Builds the documentation site from docs/ into build/site, and checks the pages that it has built.

`make site` runs it. Zensical reads a copy of the pages in build/site-pages, because some pages are outside docs/, and
because its Markdown parser needs nested lists with four spaces. A warning of Zensical is an error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

SETTINGS: Final = "site"
"""The folder with zensical.toml and the assets."""
ROOT_PAGES: Final = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "release-notes.md",
    "SECURITY.md": "vulnerabilities.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
    "changes/README.md": "fragments.md",
}
"""Pages outside docs/, and their names in the site."""
LINK: Final = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^()\s]+)\)")
ITEM: Final = re.compile(r"(?:[-*]|\d+\.) ")
SCRIPT: Final = re.compile(r"^<!-- script: ([\w-]+\.js) -->$", re.MULTILINE)
"""A place for a script of the folder assets. Other viewers of the page show nothing there."""
FENCE: Final = re.compile(r"( *)(```+)")
ASSETS: Final = {"audio", "embed", "iframe", "img", "input", "link", "object", "script", "source", "track", "video"}
"""Elements whose address a browser fetches without a click."""
VERBATIM: Final = {"code", "pre", "script", "style"}
MARKDOWN: Final = re.compile(r"\n *[-*] .{0,30}|.{0,20}\]\(.{0,20}|.{0,20}\*\*.{0,20}|```")
"""Text that a reader should not see: an item, a link, strong text or a fence that the Markdown parser did not find."""
CSS_ADDRESS: Final = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])((?:https?:)?//[^'\")\s]+)")


def main() -> int:
    """Builds the site of the current folder, which must be the root of a checkout. Returns the exit code."""
    root = Path.cwd()
    work, out = root / "build" / "site-pages", root / "build" / "site"
    for folder in (work, out):
        shutil.rmtree(folder, ignore_errors=True)
    stage(root, work)
    program = Path(sys.executable).parent / "zensical"
    done = subprocess.run(
        [program, "build", "--strict"], cwd=work, env=os.environ | {"NO_COLOR": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.stderr.write(f"{done.stdout}{done.stderr}")
        return 1
    (work / "site").rename(out)
    found = problems(out)
    for line in found:
        sys.stderr.write(f"site: {line}\n")
    if not found:
        sys.stdout.write(f"{(out / 'index.html').relative_to(root)}\n")
    return bool(found)


def navigation(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yields the pages in the navigation of zensical.toml, in their order."""
    pending = list(settings["project"]["nav"])
    while pending:
        entry = pending.pop(0)
        if isinstance(entry, str):
            yield entry
        else:
            for value in entry.values():
                pending[:0] = value if isinstance(value, list) else [value]


def pages(root: Path) -> dict[str, str]:
    """Returns all pages: the path in the repository, and the path in the site."""
    docs = root / "docs"
    found = {f"docs/{path.relative_to(docs)}": str(path.relative_to(docs)) for path in sorted(docs.rglob("*.md"))}
    return found | ROOT_PAGES


def stage(root: Path, work: Path) -> None:
    """Writes the folder that Zensical reads: its settings, the assets, and a copy of all pages and pictures."""
    shutil.copytree(root / SETTINGS, work)
    shutil.copytree(root / "docs", work / "docs", ignore=shutil.ignore_patterns("*.md"))
    (work / "assets").rename(work / "docs" / "assets")
    known = pages(root)
    readme = (root / "README.md").read_text(encoding="utf-8")
    moved_links(readme, "README.md", known | {"README.md": "README.md"}, root, work / "docs")  # copies what it links
    for source, page in known.items():
        path = work / "docs" / page
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (root / source).read_text(encoding="utf-8")
        text = wide_lists(moved_links(text, source, known, root, work / "docs"))
        assets = os.path.relpath("assets", os.path.dirname(page) or ".")  # noqa: PTH120
        path.write_text(SCRIPT.sub(rf'<script src="{assets}/\1"></script>', text), encoding="utf-8")


def moved_links(text: str, source: str, known: Mapping[str, str], root: Path, docs: Path) -> str:
    """Returns the page with its links to other files of the repository changed for the site.

    A linked file that is not in docs/ is copied to the folder `files`. A link to a folder becomes its text, unless the
    folder has a page README.md.
    """
    here = os.path.dirname(known[source])  # noqa: PTH120 - the path is one of the site

    def moved(found: re.Match[str]) -> str:
        label, target = found.groups()
        address = urlsplit(target)
        if address.scheme or not address.path:
            return found[0]
        path = os.path.normpath(os.path.join(os.path.dirname(source), unquote(address.path)))  # noqa: PTH118, PTH120
        if (root / path).is_dir():
            path = f"{path}/README.md"
        if path in known:
            place = known[path]
        elif not (root / path).exists():
            return label[1:-1] if path.endswith("/README.md") else found[0]
        elif path.startswith("docs/"):
            place = path.removeprefix("docs/")
        else:
            place = f"files/{path}"
            (docs / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / path, docs / place)
        anchor = f"#{address.fragment}" if address.fragment else ""
        return f"{label}({os.path.relpath(place, here)}{anchor})"

    return "".join(part if fenced else LINK.sub(moved, part) for fenced, part in parts(text))


def parts(text: str) -> Iterator[tuple[bool, str]]:
    """Yields the lines of a page, each with True if the line belongs to a code block between fences."""
    fence = ""
    for line in text.splitlines(keepends=True):
        found = FENCE.match(line)
        if fence:
            yield True, line
            if found and found[2] == fence:
                fence = ""
        elif found:
            fence = found[2]
            yield True, line
        else:
            yield False, line


def wide_lists(text: str) -> str:
    """Returns the page with four spaces, in place of two or three, before the nested parts of lists.

    An empty line is added before an item if Python-Markdown would take it for the text of the item before it.
    """
    inside, block = False, 0  # `block` is the level of the first line after the last empty line
    lines = [""]
    for fenced, line in parts(text):
        stripped = line.lstrip(" ")
        level = (len(line) - len(stripped)) // 2
        empty, item = not lines[-1].strip(), ITEM.match(stripped) is not None
        if not fenced and level == 0 and stripped.strip():
            inside = item or (inside and not empty)
        if not inside or fenced or not stripped.strip():
            lines.append(line)
            continue
        if item and not empty and (block > level or (level > 0 and not ITEM.match(lines[-1].lstrip(" ")))):
            lines.append("\n")
            empty = True
        block = level if empty else block
        lines.append("    " * level + stripped)
    return "".join(lines)


class _Page(HTMLParser):
    """Reads the anchors, the links and the addresses of assets from a page, and text that looks like Markdown."""

    def __init__(self) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.assets: list[str] = []
        self.markdown: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in VERBATIM:
            self._open.append(tag)
        for name, value in attrs:
            if not value:
                continue
            if name == "id" or (name == "name" and tag == "a"):
                self.anchors.add(value)
            elif name in ("src", "data", "poster") or (name == "href" and tag in ASSETS):
                self.assets.append(value)
            elif name == "href":
                self.links.append(value)

    def handle_endtag(self, tag: str) -> None:
        if tag in VERBATIM:
            self._open.remove(tag)

    def handle_data(self, data: str) -> None:
        if not self._open:
            self.markdown += MARKDOWN.findall(data)


def problems(site: Path) -> list[str]:
    """Returns a line for each outside asset, link to a missing file or anchor, and remainder of Markdown."""
    read: dict[Path, _Page] = {}
    for path in sorted(site.rglob("*.html")):
        read[path] = _Page()
        read[path].feed(path.read_text(encoding="utf-8"))
    found = [
        f"{path.relative_to(site)}: outside asset {address}"
        for path in sorted(site.rglob("*.css"))
        for address in CSS_ADDRESS.findall(path.read_text(encoding="utf-8"))
    ]
    for path, page in read.items():
        where = path.relative_to(site)
        found += [f"{where}: outside asset {address}" for address in page.assets if urlsplit(address).netloc]
        found += [f"{where}: Markdown in the text: {text.strip()}" for text in page.markdown]
        if path.name == "404.html":  # a web server shows it for any path, so its links begin at the root
            continue
        for address in {*page.links, *page.assets}:
            parsed = urlsplit(address)
            if parsed.scheme or parsed.netloc:
                continue
            target = (path.parent / unquote(parsed.path)).resolve() if parsed.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                found.append(f"{where}: link to a missing file: {address}")
            elif parsed.fragment and target in read and unquote(parsed.fragment) not in read[target].anchors:
                found.append(f"{where}: link to a missing anchor: {address}")
    return found


def settings(root: Path) -> dict[str, Any]:
    """Returns the settings of Zensical."""
    return tomllib.loads((root / SETTINGS / "zensical.toml").read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
