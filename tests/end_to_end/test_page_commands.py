"""Commands in README.md and in the other pages. Each is run as a reader runs it, or has a marker (CONTRIBUTING.md)."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import dns.message
import dns.query
import dns.reversename
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bench.processes import free_ports
from tests.support.server import TIMEOUT, http, until

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
BLOCK: Final = re.compile(
    r"(?:^<!-- needs: (?P<needs>[^\n]*) -->\n\n?)?^```(?P<language>\w*)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL
)
NEEDS: Final = {
    "a certificate",
    "a cluster",
    "an etcd server",
    "a running server",
    "an image builder",
    "a release",
    "four processors",
    "an environment of its own",
}
PROGRAM: Final = re.compile(
    r"^(?:\$ |(?:\.venv/bin/|sudo |\(cd [\w/-]+ && )?(?:aws|buildah|cat|curl|debootstrap|dig|"
    r"dnssec-keygen|docker|etcdctl|fstrm_capture|git|go|kdig|kind|kubeadm|kustomize|helm|kubectl|make|pip|python|svcdns|systemctl)\s(?!\d))"
)
COMMENT: Final = re.compile(r"\s+# .*$")
SPAN: Final = re.compile(r"`((?:make|python -m) [^`]+)`")
PORTS: Final = {"1053": "port", "8080": "health", "8181": "ready", "9153": "metrics"}


def blocks() -> Iterator[tuple[str, str | None, str, str]]:
    """Yields each code block of the pages: page and line, the tools it needs, its language and its text."""
    for page in PAGES:
        content = page.read_text()
        for found in BLOCK.finditer(content):
            where = f"{page.relative_to(ROOT)}:{content.count(chr(10), 0, found.start('text'))}"
            yield where, found["needs"], found["language"], found["text"]


def commands(language: str, text: str) -> list[tuple[str, list[str]]]:
    """Returns the commands of a block. Each command has the lines of output that the page shows, which a `sh` block
    does not have.
    """
    found: list[tuple[str, list[str]]] = []
    for line in filter(None, text.splitlines()):
        if language == "sh":
            found.append((COMMENT.sub("", line), []))
        elif line.startswith("$ "):
            found.append((COMMENT.sub("", line[2:]), []))
        else:
            found[-1][1].append(line)
    return found


COMMANDS: Final = [
    (where, needs, command, output)
    for where, needs, language, text in blocks()
    if language in ("sh", "console")
    for command, output in commands(language, text)
]
CONFORMANCE: Final = "svcdns conformance --server 127.0.0.1:1053 --manifests zones/cluster.yaml"


class Demo:
    """`svcdns demo` in a copy of the project's files, on its own ports, with an upstream that does not exist."""

    def __init__(self, folder: Path) -> None:
        """Starts `svcdns demo` in the folder, and waits until its example answers are printed."""
        self.folder = folder
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        shutil.copytree(ROOT / "zones", folder / "zones")
        corefile = (ROOT / "Corefile.example").read_text().replace("/etc/resolv.conf", "127.0.0.1:9")
        (folder / "Corefile.example").write_text(self.local(corefile))
        self.output = folder / "output"
        self.done: dict[str, tuple[int, str]] = {}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "svcdns", "demo"], cwd=folder, stdout=output, stderr=subprocess.STDOUT
            )

    def local(self, text: str) -> str:
        """Returns the text with this demo's ports in place of those in the repository."""
        return re.sub("|".join(PORTS), lambda port: str(self.ports[port[0]]), text)

    def run(self, command: str) -> tuple[int, str]:
        """Runs a command of a page, once. Returns its exit code and output."""
        if command not in self.done:
            self.done[command] = self._run(command)
        return self.done[command]

    def _run(self, command: str) -> tuple[int, str]:
        words = shlex.split(self.local(command))
        if words[0] == "make":  # sets up environments, or takes minutes: make itself checks the target
            done = subprocess.run([*words, "-n"], cwd=ROOT, capture_output=True, text=True, check=False)
            return done.returncode, ""
        if words[0] == "dig" and not shutil.which("dig"):
            return 0, short_dig(words[1:])
        if Path(words[0]).name == "svcdns":
            words[:1] = [sys.executable, "-m", "svcdns"]
        if words[:2] == ["python", "-m"]:  # a module of the repository
            done = subprocess.run([sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
            return done.returncode, done.stdout
        done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, check=False, timeout=60)
        return done.returncode, done.stdout


def short_dig(arguments: list[str]) -> str:
    """Prints what `dig +short` would print, for machines without `dig`."""
    server, port, rtype, name = "", 53, "A", ""
    words = iter(arguments)
    for word in words:
        if word.startswith("@"):
            server = word[1:]
        elif word == "-p":
            port = int(next(words))
        elif word == "-x":
            name, rtype = dns.reversename.from_address(next(words)).to_text(), "PTR"
        elif word in ("A", "AAAA", "SRV", "PTR", "TXT", "MX", "SOA", "CNAME"):
            rtype = word
        else:
            assert word == "+short" or not word.startswith(("+", "-")), f"an option that is not known here: {word}"
            name = name if word == "+short" else word
    reply = dns.query.udp(dns.message.make_query(name, rtype), server, 10, port)
    return "".join(f"{rdata.to_text()}\n" for rrset in reply.answer for rdata in rrset)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    running = Demo(tmp_path)
    try:
        until("the demo's answers", lambda: "Ctrl-C ends it" in running.output.read_text())
        yield running
    finally:
        running.process.terminate()
        running.process.wait(TIMEOUT)


def resembles(shown: list[str], printed: list[str]) -> bool:
    """Returns True if the printed lines are the shown lines, in any order. `…` stands for any text."""
    patterns = [".*".join(map(re.escape, line.split("…"))) for line in shown]
    return len(shown) == len(printed) and all(
        sum(re.fullmatch(pattern, line) is not None for line in printed) >= patterns.count(pattern)
        for pattern in patterns
    )


def test_every_block_with_commands_is_known() -> None:
    """Commands are in code blocks of the language `sh` or `console`. Markers have known values."""
    for where, needs, language, text in blocks():
        assert needs is None or needs in NEEDS, f"{where}: unknown marker: {needs}"
        if language in ("sh", "console"):
            assert commands(language, text), where
        elif language in ("", "text"):
            usage = [line for line in text.splitlines() if PROGRAM.match(line) and "[" not in line]
            assert usage == [], f"{where}: commands stand in a block of the language sh or console"


def wrong_output(demo: Demo, needs: str | None, command: str, output: list[str]) -> str | None:
    """Returns the output if a command fails or does not print the shown lines, otherwise None."""
    if needs is not None and not command.startswith("make "):
        return None if PROGRAM.match(command) or command.startswith(".venv/bin/") else "an unknown program"
    code, printed = demo.run(command)
    shown = [demo.local(line) for line in output]
    return printed if code or (shown and not resembles(shown, [*filter(None, printed.splitlines())])) else None


@pytest.mark.slow
def test_commands_do_what_the_pages_show(demo: Demo) -> None:
    """Commands end with code 0 and print the lines on their page.

    The demo prints queries of the pages. docs/conformance.md lists the checks that fail for CoreDNS.
    docs/metrics.md lists the metrics with their labels.
    """
    found = {
        f"{where} {command}": wrong_output(demo, needs, command, output) for where, needs, command, output in COMMANDS
    }
    assert {command: printed for command, printed in found.items() if printed is not None} == {}
    named = re.findall(r"^ +(dig .*)$", demo.output.read_text(), re.MULTILINE)
    assert len(named) == 4
    assert {demo.local(command).replace(" +short", "") for _, _, command, _ in COMMANDS} >= set(named)
    page = (ROOT / "docs" / "conformance.md").read_text()
    table = page.partition("## What it says about CoreDNS")[2].partition("## The checks")[0]
    listed = set(re.findall(r"^\| `([\w-]+)` \|.*\| fails \|$", table, re.MULTILINE)) - {"nodata-reverse"}  # passed on
    severities = "required|recommended|informational"
    assert set(re.findall(rf"^([\w-]+) \((?:{severities})\): ", demo.run(CONFORMANCE)[1], re.MULTILINE)) == listed
    served = http(demo.ports["9153"], "/metrics")[1]
    assert {name: labels for name, labels in metrics(served).items() if documented().get(name) != labels} == {}
    assert len(metrics(served)) > 20


def test_invalid_manifests_are_reported_as_on_the_page(tmp_path: Path) -> None:
    """docs/manifests.md has the error for two changed lines of zones/cluster.yaml."""
    shutil.copytree(ROOT / "zones", tmp_path / "zones")
    shutil.copy(ROOT / "Corefile.example", tmp_path)
    lines = (tmp_path / "zones" / "cluster.yaml").read_text().splitlines()
    for number, word in ((83, "many"), (202, "three")):
        lines[number - 1] = re.sub("replicas: 3", f"replicas: {word}", lines[number - 1])
    (tmp_path / "zones" / "cluster.yaml").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "svcdns", "-conf", "Corefile.example"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    (shown,) = re.findall(r"^```text\n(Corefile.*?)^```", (ROOT / "docs" / "manifests.md").read_text(), re.M | re.S)
    assert (done.returncode, done.stderr) == (1, shown)


def documented() -> dict[str, set[str]]:
    """Returns the labels of each metric in docs/metrics.md."""
    rows = re.findall(r"^\| `(\w+)` \| \w+ \| ([^|]*) ?\|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    return {name: {label for label in labels.strip().split(", ") if label} for name, labels in rows}


def metrics(page: str) -> dict[str, set[str]]:
    """Returns the labels of each metric that a server prints."""
    return {
        re.sub(r"_(bucket|sum|count)$", "", sample.name) if family.type == "histogram" else sample.name: {
            label for label in sample.labels if label != "le"
        }
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_text_exist(page: Path) -> None:
    """Pages name targets of `make`, and modules and options of `python -m bench.NAME`."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for span in SPAN.findall(page.read_text()):
        words = shlex.split(span)
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word and not word.startswith("-")} <= targets, span
            continue
        spec = importlib.util.find_spec(words[2])
        assert spec is not None, span
        if words[2].startswith("bench"):
            assert spec.origin is not None
            source = "".join(path.read_text() for path in Path(spec.origin).parent.glob("*.py"))
            assert all(f'"{word}"' in source for word in words[3:] if word.startswith("--")), span


@pytest.mark.parametrize(
    ("shown", "printed", "held"),
    [
        (["a", "b"], ["b", "a"], True),
        (["a … c"], ["a 1 c"], True),
        (["a", "b"], ["a", "a"], False),
        (["a"], ["a", "b"], False),
        (["…", "…"], ["1"], False),
    ],
)
def test_resembles(shown: list[str], printed: list[str], held: bool) -> None:
    assert resembles(shown, printed) == held
