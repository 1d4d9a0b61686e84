"""`svcdns query`: the answers that manifests would give, without a cluster and without a server."""

from __future__ import annotations

import asyncio

import click
import msgspec

from svcdns.cli.errors import CannotRun
from svcdns.cli.offline_server import cluster_corefile, running
from svcdns.cli.types import RECORD_TYPE, ZONE, to_rtype
from svcdns.inspection.search_path import domains, expanded
from svcdns.inspection.zone_listing import Difference, Listing, difference, listing, schema
from svcdns.wire import names
from svcdns.wire.codes import Rcode, rcode_text
from svcdns.wire.errors import NameTextError
from svcdns.wire.tool_messages import record_line

EXAMPLES = """\b
Examples:
  svcdns query --manifests k8s/ web.default
  svcdns query --manifests k8s/ _http._tcp.web.default SRV
  svcdns query --manifests k8s/ --all
  svcdns query --diff old/ new/ --output markdown
  kubectl kustomize overlays/prod | svcdns query --manifests - --all
  helm template my-release chart/ | svcdns query --manifests - web.default
"""


@click.command(epilog=EXAMPLES, short_help="Ask manifests for names, without a cluster.")
@click.argument("name", required=False)
@click.argument("rtype", metavar="[TYPE]", required=False, default="A", type=RECORD_TYPE)
@click.option("--manifests", multiple=True, metavar="PATH", help="A file or folder of YAML; '-' is standard input.")
@click.option("--zone", default="cluster.local.", type=ZONE, help="The zone of the cluster.", show_default=True)
@click.option("--namespace", default="default", help="The namespace of the client.", show_default=True)
@click.option("--all", "every", is_flag=True, help="List every name of the cluster.")
@click.option("--diff", nargs=2, metavar="OLD NEW", help="List the names that appear, vanish or change.")
@click.option(
    "--output",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    show_default=True,
    help="Output format.",
)
@click.option("--schema", "show_schema", is_flag=True, help="Print the JSON schema of --diff, and exit.")
def query(
    name: str | None, rtype: str, manifests: tuple[str, ...], zone: str, namespace: str, every: bool,
    diff: tuple[str, str] | None, output: str, show_schema: bool,
) -> int:  # fmt: skip
    """Prints the answer that a Pod in the cluster would get for NAME, from Kubernetes manifests.

    A NAME without a dot at its end is completed with the search path of a Pod: 'web', 'web.default'.

    Exit code: 0 if there are records, 1 if there are none or --diff finds a difference, 2 if the command could not
    run.
    """
    if show_schema:
        click.echo(msgspec.json.format(msgspec.json.encode(schema())).decode())
        return 0
    if diff:
        if diff == ("-", "-"):
            raise CannotRun("--diff - -: only one of OLD and NEW can be standard input")
        return _diff(*diff, zone, output)
    if not manifests:
        raise CannotRun("--manifests PATH is missing; PATH is a file or folder of manifests")
    if every:
        return _list(asyncio.run(_listing(manifests, zone)), output)
    if name is None:
        raise CannotRun("NAME is missing; --all lists every name")
    code, lines = asyncio.run(_ask(name, rtype, manifests, zone, namespace))
    _print_records(lines, output)
    return code


async def _ask(name: str, rtype: str, manifests: tuple[str, ...], zone: str, namespace: str) -> tuple[int, list[str]]:
    """Returns the exit code, and the records of the answer as lines of a zone file."""
    async with running(cluster_corefile(zone, manifests)) as server:
        rcode = int(Rcode.NXDOMAIN)
        for asked in expanded(name, domains(namespace, zone)):
            try:
                trace = await server.ask(names.from_text(asked), to_rtype(rtype))
            except NameTextError as failure:
                raise CannotRun(f"{name}: {failure}") from failure
            reply = trace.reply
            if reply.answer:
                return 0, [record_line(one.owner, one.ttl, one.rtype, one.rdata) for one in reply.answer]
            if reply.rcode == Rcode.NOERROR:
                rcode = reply.rcode
                break
    click.echo(f"{name}: {rcode_text(rcode)} ('svcdns explain' says why)", err=True)
    return 1, []


def _print_records(lines: list[str], output: str) -> None:
    parts = [line.split(" ", 4) for line in lines]
    if output == "json":
        rows = [{"name": owner, "type": rtype, "ttl": int(ttl), "data": data} for owner, ttl, _, rtype, data in parts]
        click.echo(msgspec.json.format(msgspec.json.encode(rows)).decode())
    elif output == "markdown":
        click.echo("| Name | Type | Data |\n|---|---|---|")
        for owner, _, _, rtype, data in parts:
            click.echo(f"| `{owner}` | {rtype} | {data} |")
    else:
        for line in lines:
            click.echo(line)


async def _listing(manifests: tuple[str, ...], zone: str) -> Listing:
    async with running(cluster_corefile(zone, manifests)) as server:
        return listing(server, zone)


def _list(found: Listing, output: str) -> int:
    if output == "json":
        rows = [{"name": name, "type": rtype, "data": list(data)} for (name, rtype), data in found.items()]
        click.echo(msgspec.json.format(msgspec.json.encode(rows)).decode())
    elif output == "markdown":
        click.echo("| Name | Type | Data |\n|---|---|---|")
        for (name, rtype), data in found.items():
            click.echo(f"| `{name}` | {rtype} | {', '.join(data)} |")
    else:
        for (name, rtype), data in found.items():
            for one in data:
                click.echo(f"{name} {rtype} {one}")
    return 0 if found else 1


def _diff(old: str, new: str, zone: str, output: str) -> int:
    found = difference(*(asyncio.run(_listing((path,), zone)) for path in (old, new)))
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    elif output == "markdown":
        _markdown(found)
    else:
        for sign, colour, rows in (
            ("+", "green", found.appear),
            ("-", "red", found.vanish),
            ("~", "yellow", found.change),
        ):
            for one in rows:
                data = (
                    " ".join(one.after or one.before)
                    if sign != "~"
                    else f"{' '.join(one.before)} -> {' '.join(one.after)}"
                )
                click.echo(click.style(f"{sign} {one.name} {one.type} {data}", fg=colour))
    return 1 if found.appear or found.vanish or found.change else 0


def _markdown(found: Difference) -> None:
    rows = [("appears", one) for one in found.appear]
    rows += [("**vanishes**", one) for one in found.vanish]
    rows += [("changes", one) for one in found.change]
    if not rows:
        click.echo("No name changes.")
        return
    click.echo("| | Name | Type | Before | After |\n|---|---|---|---|---|")
    for what, one in rows:
        click.echo(f"| {what} | `{one.name}` | {one.type} | {', '.join(one.before)} | {', '.join(one.after)} |")
