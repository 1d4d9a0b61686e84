"""Makes a release in the current checkout: version, changelog, commit, wheel, sdist, chart and tag. It uploads nothing.

`make release VERSION=1.2.3` runs it. docs/releasing.md has the whole recipe.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from packaging.version import InvalidVersion, Version

from tools import docs_site

VERSION_FILE: Final = Path("svcdns/__init__.py")
CHART: Final = "deploy/helm/svcdns"
CHART_FILE: Final = f"{CHART}/Chart.yaml"
CHART_LINES: Final = re.compile(r"^(version|appVersion): .+$", re.MULTILINE)
VERSION_LINE: Final = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)
FRAGMENTS: Final = Path("changes")
FRAGMENT: Final = re.compile(r".+\.(security|removed|added|changed|fixed)(\.\d+)?\.md")


class ReleaseError(Exception):
    """The release cannot be made. The text says why."""


def main(arguments: Sequence[str]) -> int:
    """Runs the steps in the current folder, which must be the root of a checkout. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="release", description="Makes a release; docs/releasing.md has the recipe.")
    parser.add_argument("version", help="X.Y.Z, or X.Y.ZrcN for a release candidate")
    parser.add_argument("--date", help="the day of the release, YYYY-MM-DD; default: today")
    options = parser.parse_args(arguments)
    root = Path.cwd()
    try:
        check(root, options.version)
        write_version(root, options.version)
        _run(
            root,
            sys.executable,
            "-m",
            "towncrier",
            "build",
            "--yes",
            "--version",
            options.version,
            *_date(options.date),
        )
        _run(root, "git", "add", "--all", ".")
        _run(root, "git", "commit", "--quiet", "--message", f"release: {options.version}")
        files = build(root, root / "dist" / options.version, options.version)
        _run(root, "git", "tag", "--annotate", f"v{options.version}", "--message", f"svcdns {options.version}")
    except ReleaseError as error:
        sys.stderr.write(f"release: {error}\n")
        return 1
    sys.stdout.write("".join(f"{path.relative_to(root)}\n" for path in files))
    sys.stdout.write(
        f"Tag v{options.version} is made, nothing is uploaded. docs/releasing.md goes on with the upload.\n"
    )
    return 0


def check(root: Path, version: str) -> None:
    """Raises ReleaseError unless `version` can be released from the checkout `root`."""
    current = read_version(root)
    if _parsed(version) < _parsed(current):
        raise ReleaseError(f"version {version} is older than {current} in {VERSION_FILE}")
    if _run(root, "git", "tag", "--list", f"v{version}"):
        raise ReleaseError(f"tag v{version} exists")
    if changed := _run(root, "git", "status", "--porcelain"):
        raise ReleaseError(f"the checkout has changes that are not committed:\n{changed}")
    if not any(FRAGMENT.fullmatch(path.name) for path in (root / FRAGMENTS).iterdir()):
        raise ReleaseError(f"{FRAGMENTS}/ has no fragment: nothing to release")


def read_version(root: Path) -> str:
    """The version that the checkout `root` has now."""
    found = VERSION_LINE.search((root / VERSION_FILE).read_text(encoding="utf-8"))
    if found is None:
        raise ReleaseError(f"{VERSION_FILE} has no line __version__")
    return found[1]


def write_version(root: Path, version: str) -> None:
    """Puts `version` into the package, where the build takes it from, and into the Helm chart."""
    path = root / VERSION_FILE
    path.write_text(VERSION_LINE.sub(f'__version__ = "{version}"', path.read_text(encoding="utf-8")), encoding="utf-8")
    chart = root / CHART_FILE
    text = CHART_LINES.sub(lambda line: f'{line[1]}: "{version}"', chart.read_text(encoding="utf-8"))
    chart.write_text(text, encoding="utf-8")


def build(root: Path, folder: Path, version: str) -> list[Path]:
    """Builds wheel, sdist and chart of the last commit into `folder`, with their checksums. Returns the four files.

    The build runs in a fresh clone: files that are not committed cannot get into it.
    """
    if folder.exists():
        raise ReleaseError(f"{folder.relative_to(root)} exists; remove it first")
    # Wheel and chart of a commit have the same bytes on every build: they have the time of the commit, and `_run` sets
    # the umask.
    committed = _run(root, "git", "log", "-1", "--format=%ct")
    wheel, sdist, chart, sums = (folder / name for name in file_names(version))
    with tempfile.TemporaryDirectory(prefix="svcdns-release-") as clone:
        _run(root, "git", "clone", "--quiet", "--no-local", "--depth=1", str(root), clone)
        _write_index_readme(Path(clone))
        environ = os.environ | {"SOURCE_DATE_EPOCH": committed}
        _run(Path(clone), sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), environ=environ)
        if {*folder.iterdir()} != {wheel, sdist}:
            raise ReleaseError(f"the build made {', '.join(sorted(path.name for path in folder.iterdir()))}")
        package_chart(Path(clone) / CHART, chart, int(committed))
    built = (wheel, sdist, chart)
    digests = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in built]
    sums.write_text("".join(digests), encoding="utf-8")
    return [*built, sums]


def index_readme(text: str, pages: Mapping[str, str], address: str) -> str:
    """Returns the README for a package index, where relative links do not work.

    `address` is that of the documentation site, which has all files that the README links. If `address` is empty, the
    links become text, and the pictures are left out.
    """

    def absolute(found: re.Match[str]) -> str:
        label, target = found.groups()
        if target.startswith(("https://", "#")):
            return found[0]
        if not address:
            return "" if label.startswith("!") else label[1:-1]
        path, _, anchor = target.partition("#")
        page = re.sub(r"README\.md$", "index.md", pages.get(path, "")).replace(".md", ".html")
        place = page or (path.removeprefix("docs/") if path.startswith("docs/") else f"files/{path}")
        return f"{label}({address.rstrip('/')}/{place}{'#' * bool(anchor)}{anchor})"

    return docs_site.LINK.sub(absolute, text)


def _write_index_readme(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    path = root / project["readme"]
    address = project.get("urls", {}).get("Documentation", "")
    path.write_text(index_readme(path.read_text(encoding="utf-8"), docs_site.pages(root), address), encoding="utf-8")


def package_chart(source: Path, target: Path, seconds: int) -> None:
    """Writes the files of a Helm chart as `helm package` does, but with the same bytes on every build.

    `seconds` is the time of all files. Pages in Markdown are left out, as the chart's `.helmignore` states.
    """

    def normal(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mtime, entry.mode = seconds, 0o644
        return entry

    files = sorted(path for path in source.rglob("*") if path.is_file() and path.suffix != ".md")
    with (
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=seconds) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for path in files:
            archive.add(path, f"{source.name}/{path.relative_to(source)}", filter=normal)


def file_names(version: str) -> tuple[str, str, str, str]:
    """The names of wheel, sdist, chart and checksums, as the Python packaging specifications and Helm form them."""
    return f"svcdns-{version}-py3-none-any.whl", f"svcdns-{version}.tar.gz", f"svcdns-{version}.tgz", "SHA256SUMS"


def _parsed(version: str) -> Version:
    try:
        parsed = Version(version)
    except InvalidVersion as error:
        raise ReleaseError(f"{version!r} is no version") from error
    if (
        str(parsed) != version
        or len(parsed.release) != 3
        or parsed.local
        or parsed.is_postrelease
        or parsed.is_devrelease
    ):
        raise ReleaseError(f"version {version!r}: expected X.Y.Z or X.Y.ZrcN")
    return parsed


def _date(day: str | None) -> list[str]:
    return [] if day is None else ["--date", day]


def _run(folder: Path, *command: str, environ: Mapping[str, str] | None = None) -> str:
    """What the command prints. Raises ReleaseError with its output if it fails."""
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False, umask=0o022)
    if done.returncode:
        raise ReleaseError(f"`{' '.join(command)}` failed:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
