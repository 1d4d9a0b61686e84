"""`svcdns check`: finds the problems of a Corefile without a start."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Final

import click
import msgspec

from svcdns.cli.errors import CannotRun
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.load import CorefileMissingError
from svcdns.inspection.coredns import differences
from svcdns.inspection.formatting import formatted
from svcdns.inspection.permissions import cluster_role, permissions, watches
from svcdns.inspection.reading import Reading, read
from svcdns.inspection.report import Found, Report, report, schema
from svcdns.inspection.rules import apply
from svcdns.inspection.size import SizeError, estimate
from svcdns.inspection.size import parse as parse_size

_COLOURS: Final = {"error": "red", "warning": "yellow", "note": "cyan"}

EXAMPLES: Final = """\b
Examples:
  svcdns check                              the file Corefile in this folder
  svcdns check deploy/Corefile --output json
  svcdns check Corefile --against coredns   what would change after CoreDNS
  svcdns check Corefile --rbac              the ClusterRole that it needs
  svcdns check Corefile --size services=5000,endpoints=20000
  svcdns check Corefile --fix               format the file
  kubectl -n kube-system get cm coredns -o jsonpath='{.data.Corefile}' | svcdns check stdin
"""


@click.command(epilog=EXAMPLES, short_help="Find all problems of a Corefile without a start.")
@click.argument("corefile", required=False)
@click.option("--output", type=click.Choice(["text", "json"]), default="text", help="Output format.", show_default=True)
@click.option("--schema", "show_schema", is_flag=True, help="Print the JSON schema of --output json, and exit.")
@click.option("--against", type=click.Choice(["coredns"]), help="Also note what CoreDNS would do differently.")
@click.option("--rbac", is_flag=True, help="Print the ClusterRole that this Corefile needs, and nothing else.")
@click.option("--kubeconfig", metavar="FILE", help="With --rbac: list the permissions that the user of FILE lacks.")
@click.option(
    "--context", default="", metavar="NAME", help="The context of the kubeconfig.  [default: its current one]"
)
@click.option("--size", metavar="services=N,endpoints=N,workers=N", help="Estimate the memory, and print nothing else.")
@click.option("--fix", is_flag=True, help="Format the file, without a change of its words and comments.")
@click.option("--diff", is_flag=True, help="With --fix: print the change, and do not write.")
@click.option(
    "-dns.port", "--dns.port", "port", default=53, metavar="PORT", help="The port of server blocks that state none."
)
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings too.")
def check(
    corefile: str | None, output: str, show_schema: bool, against: str | None, rbac: bool, kubeconfig: str | None,
    context: str, size: str | None, fix: bool, diff: bool, port: int, strict: bool,
) -> int:  # fmt: skip
    """Finds all problems of COREFILE at once, each with its file, line and column.

    Without COREFILE the file Corefile in the working directory is checked; 'stdin' reads standard input.

    Exit code: 0 without errors, 1 if an error was found, 2 if the check could not run.
    """
    if show_schema:
        click.echo(msgspec.json.format(msgspec.json.encode(schema())).decode())
        return 0
    if size is not None:
        return _size(size)
    try:
        if fix:
            return _fix(corefile, write=not diff)
        reading = read(corefile, default_port=port)
    except CorefileMissingError as failure:
        raise CannotRun(failure.reason) from failure
    if rbac:
        return _rbac(reading, kubeconfig, context)
    apply(reading)
    if against:
        reading.add(*differences(reading))
    found = report(reading)
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        _print(reading, found.problems)
        click.echo(_summary(found))
    return 1 if found.errors or (strict and found.warnings) else 0


def _print(reading: Reading, problems: list[Found]) -> None:
    for one in problems:
        kind = click.style(one.severity, fg=_COLOURS[one.severity], bold=True)
        click.echo(f"{one.file}:{one.line}:{one.column}: {kind}: {one.message} [{one.rule}]")
        source = _line(reading, one)
        if source:
            shown = source.replace("\t", " ")
            click.echo(f"    {shown}")
            click.echo("    " + " " * (one.column - 1) + click.style("^", fg=_COLOURS[one.severity]))
        if one.mend:
            click.echo(f"    {click.style('mend:', bold=True)} {one.mend}")


def _line(reading: Reading, one: Found) -> str:
    """Returns the line of the problem, or an empty text if its file cannot be read."""
    text = reading.texts.get(one.file)
    if text is None:
        try:
            text = Path(one.file).read_text(errors="replace")
        except OSError:
            return ""
        reading.texts[one.file] = text
    lines = text.splitlines()
    return lines[one.line - 1] if one.line <= len(lines) else ""


def _summary(found: Report) -> str:
    if not found.errors and not found.warnings:
        return f"{found.corefile}: no problems"
    parts = [
        f"{count} {word}{'s' if count > 1 else ''}"
        for count, word in ((found.errors, "error"), (found.warnings, "warning"))
        if count
    ]
    text = f"{found.corefile}: {' and '.join(parts)}"
    if not found.starts:
        return f"{text}; svcdns does not start with it"
    return f"{text}; svcdns starts, but a part of the Corefile does not work" if found.errors else text


def _size(text: str) -> int:
    try:
        numbers = parse_size(text)
    except SizeError as failure:
        raise CannotRun(str(failure)) from failure
    services = numbers["services"]
    found = estimate(services, numbers.get("endpoints", services), numbers.get("workers", 1))
    click.echo(f"expected: {found.expected >> 20} MiB")
    click.echo(f"memory limit of the container: at least {found.limit >> 20} MiB, with room for an upgrade in place")
    return 0


def _fix(path: str | None, *, write: bool) -> int:
    name = path or "Corefile"
    try:
        text = sys.stdin.read() if name == "stdin" else Path(name).read_text()
        new = formatted(text, name)
    except (OSError, UnicodeDecodeError, CorefileError) as failure:
        raise CannotRun(f"{name}: {failure}") from failure
    if name == "stdin":
        click.echo(new, nl=False)
    elif not write:
        changes = difflib.unified_diff(text.splitlines(True), new.splitlines(True), name, f"{name} formatted")
        click.echo("".join(changes), nl=False)
        return 1 if new != text else 0
    elif new != text:
        _replace(Path(name), new)
        click.echo(f"{name}: written")
    else:
        click.echo(f"{name}: is well formatted")
    return 0


def _replace(path: Path, text: str) -> None:
    """Replaces the content of the file by renaming, so that a failed write leaves the old content."""
    target = path.resolve()
    new = target.with_name(f".{target.name}.new")
    try:
        new.write_text(text)
        new.chmod(target.stat().st_mode & 0o777)
        new.replace(target)
    except OSError as failure:
        new.unlink(missing_ok=True)
        raise CannotRun(f"{path} cannot be written: {failure.strerror}") from failure


def _rbac(reading: Reading, kubeconfig: str | None, context: str) -> int:
    needed = permissions(watches(reading))
    if kubeconfig is None:
        click.echo(cluster_role(needed), nl=False)
        return 0
    from svcdns.cli.access_review import missing  # the HTTP library is loaded only here

    lacking = missing(needed, kubeconfig, context)
    for verb, permission in lacking:
        click.echo(f"missing: {verb} {permission.resource}{'.' + permission.group if permission.group else ''}")
    if not lacking:
        click.echo("the user of the kubeconfig has all permissions that the Corefile needs")
    return 1 if lacking else 0
