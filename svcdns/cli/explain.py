"""`svcdns explain`: explains the answer for a name."""

from __future__ import annotations

import asyncio
import ipaddress
from math import inf
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from svcdns.cli.errors import CannotRun
from svcdns.cli.offline_server import copied, running
from svcdns.cli.types import RECORD_TYPE, to_rtype
from svcdns.cluster.index import Index
from svcdns.corefile.load import CorefileMissingError
from svcdns.inspection.explanation import ExplainedQuery, Explanation, explain, schema
from svcdns.inspection.offline import OfflineServer
from svcdns.inspection.problem import Severity
from svcdns.inspection.reading import Reading, read, read_given
from svcdns.inspection.search_path import domains, expanded
from svcdns.plugins.kubernetes.options import Options as KubernetesOptions
from svcdns.wire import names
from svcdns.wire.errors import NameTextError

BUILT_IN = """.:53 {
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
    }
    forward . /etc/resolv.conf
}
"""
"""The Corefile that is used if there is none."""

EXAMPLES = """\b
Examples:
  svcdns explain web.default --manifests k8s/
  svcdns explain web --namespace shop --conf Corefile
  svcdns explain _http._tcp.web.default.svc.cluster.local SRV --kubeconfig ~/.kube/config
  svcdns explain api.example.com --pod shop/web-0 --kubeconfig ~/.kube/config --verbose
  svcdns explain web.shop --server /run/svcdns/admin.sock
"""


@click.command("explain", epilog=EXAMPLES, short_help="Say why a name has the answer that it has.")
@click.argument("name")
@click.argument("rtype", metavar="[TYPE]", required=False, default="A", type=RECORD_TYPE)
@click.option("--conf", metavar="FILE", help="The Corefile.  [default: Corefile in this folder, or a built-in one]")
@click.option("--manifests", multiple=True, metavar="PATH", help="Read the cluster from these files and folders.")
@click.option("--kubeconfig", metavar="FILE", default="", help="Read the cluster from this API server.")
@click.option(
    "--context", metavar="NAME", default="", help="The context of the kubeconfig.  [default: its current one]"
)
@click.option("--client", metavar="ADDRESS", help="The address of the client.")
@click.option("--pod", metavar="NAMESPACE/POD", help="The client is this Pod.")
@click.option(
    "--namespace", metavar="NAME", help="The namespace of the client, for its search path.  [default: default]"
)
@click.option(
    "--server",
    metavar="HOST[:PORT]|PATH",
    help="Also query this running server, and print how its answer differs. "
    "With the path of the server's socket (plugin 'admin'), explain the answer from the server's state.",
)
@click.option("--verbose", is_flag=True, help="Show each plugin that each query reaches.")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Output format.")
@click.option("--schema", "show_schema", is_flag=True, is_eager=True, expose_value=True, help="Print the JSON schema.")
def explain_command(
    name: str, rtype: str, conf: str | None, manifests: tuple[str, ...], kubeconfig: str, context: str,
    client: str | None, pod: str | None, namespace: str | None, server: str | None, verbose: bool, output: str, show_schema: bool,
) -> int:  # fmt: skip
    """Says in its first line why a client gets the answer that it gets for NAME.

    The queries of the search path are answered in this process: with the plugins of the Corefile, and with the cluster
    of the manifests or of the API server. Queries for names outside the cluster are sent to the upstreams.

    Exit code: 0 if the name has records, 1 if not, 2 if the command could not run.
    """
    if show_schema:
        click.echo(msgspec.json.format(msgspec.json.encode(schema())).decode())
        return 0
    if client and pod:
        raise CannotRun("--client and --pod cannot be combined: both name the client")
    asker = Asker(_address(client), client is not None, pod, namespace, [])
    reverse = _reverse_name(name) if rtype == "A" else None
    if reverse is not None:
        asker.notes.append(f"{name} is an address: its PTR record is explained")
        name, rtype = reverse, "PTR"
    if server is not None and is_socket(server):
        if conf or manifests or kubeconfig or context:
            raise CannotRun(
                "--server PATH has the Corefile and the cluster of the server: it cannot be combined with others"
            )
        found = asyncio.run(_explained_by_server(server, name, rtype, asker))
        server = None
    else:
        source = Source(_reading(conf), manifests, kubeconfig, context)
        found = asyncio.run(_explained(source, name, rtype, asker))
    if server is not None:
        from svcdns.cli.running_server import compared

        cause, lines = asyncio.run(compared(server, found.queries, to_rtype(rtype)))
        cause = f"{found.cause} {cause}" if cause.startswith("(") else cause or found.cause
        found = msgspec.structs.replace(found, cause=cause, server=lines)
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        _print(found, verbose=verbose)
    for note in asker.notes:
        click.echo(note, err=True)
    return 0 if found.queries[-1].has_data else 1


def is_socket(server: str) -> bool:
    """Returns True if the value of --server is the path of a socket, not HOST[:PORT]. Raises CannotRun.

    A value without a slash is a path if the file exists.
    """
    if "/" in server or Path(server).is_socket():
        return True
    if server.endswith(".sock"):
        raise CannotRun(
            f"--server {server}: there is no such socket here; write its path, such as /run/svcdns/{server}"
        )
    return False


def _reading(conf: str | None) -> Reading:
    if conf is None and not Path("Corefile").exists():
        return read_given(BUILT_IN, "built-in", environ={})
    try:
        reading = read(conf)
    except CorefileMissingError as failure:
        raise CannotRun(failure.reason) from failure
    errors = sum(one.severity is Severity.ERROR for one in reading.problems)
    if errors:
        text = f"{reading.path} has {errors} error{'s' if errors > 1 else ''}, see 'svcdns check'; parts with errors are left out"
        click.echo(text, err=True)
    return reading


def _address(text: str | None) -> str:
    if text is None:
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as failure:
        raise CannotRun(f"--client {text}: an IP address was expected") from failure


def _reverse_name(text: str) -> str | None:
    """Returns the name of the PTR record of an address, or None if the text is no address."""
    try:
        return f"{ipaddress.ip_address(text).reverse_pointer}."
    except ValueError:
        return None


class Source(NamedTuple):
    """Where the Corefile and the cluster are read from."""

    reading: Reading
    manifests: tuple[str, ...]
    kubeconfig: str
    context: str


class Asker(NamedTuple):
    """The client, as the options of the command name it: its address, its Pod (NAMESPACE/POD), its namespace.

    `has_address` is False if the address is only assumed.
    """

    address: str
    has_address: bool
    pod: str | None
    namespace: str | None
    notes: list[str]
    """Remarks about the client, which the command prints at its end."""


async def _explained(source: Source, name: str, rtype: str, asker: Asker) -> Explanation:
    reading, manifests, kubeconfig, context = source
    pods = asker.pod is not None or (asker.has_address and bool(manifests))
    async with running(reading, manifests, kubeconfig, context, pods=pods) as server:
        return await _explained_in(server, reading, name, rtype, asker, has_pods=True)


async def _explained_by_server(path: str, name: str, rtype: str, asker: Asker) -> Explanation:
    from svcdns.cli.running_state import described, fetched

    state = fetched(path)
    options = _kubernetes(state.reading)
    has_pods = options is not None and options.watch.pods
    async with copied(state) as server:
        found = await _explained_in(server, state.reading, name, rtype, asker, has_pods=has_pods)
    return described(path, found, options.stale_after if options is not None else inf)


def _kubernetes(reading: Reading) -> KubernetesOptions | None:
    every = (one for plan in reading.plans for one in plan.options.values())
    return next((one for one in every if isinstance(one, KubernetesOptions)), None)


async def _explained_in(
    server: OfflineServer, reading: Reading, name: str, rtype: str, asker: Asker, *, has_pods: bool
) -> Explanation:
    options = _kubernetes(reading)
    zone = options.primary_zone if options is not None else "cluster.local."
    index = server.index(options.watch) if options is not None else None
    address, namespace = asker.address, asker.namespace
    if asker.pod is not None:
        if index is None:
            raise CannotRun("--pod: the Corefile has no 'kubernetes'")
        namespace, address = _pod(asker, index if has_pods else None)
    elif asker.has_address and namespace is None and index is not None:
        namespace = next((one.namespace for one in index.pods_with(address)), None)
    search = domains(namespace or "default", zone)
    candidates = expanded(name, search)
    try:
        for one in candidates:
            names.from_text(one)
    except NameTextError as failure:
        raise CannotRun(f"{name}: {failure}") from failure
    used = search if len(candidates) > 1 else ()
    found = await explain(server, reading, candidates, to_rtype(rtype), address, used)
    if used and namespace is None and not found.queries[-1].records:
        text = "the client is assumed to be in the namespace 'default'; --namespace or --pod names another one"
        asker.notes.append(text)
    return found


def _pod(asker: Asker, index: Index | None) -> tuple[str, str]:
    """Returns namespace and address of the client's Pod. Without an index, the address is the assumed one."""
    text = str(asker.pod)
    namespace, _, name = text.rpartition("/")
    namespace = namespace or "default"
    if index is None:
        remark = f"the server does not watch Pods ('pods verified'), so the address of {text} is unknown: "
        asker.notes.append(f"{remark}plugins that use the client's address get {asker.address}")
        return namespace, asker.address
    found = index.pod(namespace.lower(), name.lower())
    if found is None:
        raise CannotRun(f"--pod {text}: namespace '{namespace}' has no running Pod '{name}'")
    return namespace, found.ip


def _print(found: Explanation, *, verbose: bool) -> None:
    last = found.queries[-1]
    colour = "green" if last.has_data else "red" if last.rcode not in ("NOERROR",) else "yellow"
    click.echo(click.style(found.cause, fg=colour, bold=True))
    if found.near:
        click.echo(f"names that exist: {' '.join(found.near)}")
    if found.search:
        click.echo(f"search path: {' '.join(found.search)} (ndots:5)")
        if last.has_data and last.name == found.name and len(found.queries) > 1:
            click.echo(
                f"fewer queries: write '{last.name}' with the dot at its end, or a smaller ndots in the Pod's dnsConfig"
            )
    for line in found.server:
        click.echo(f"server: {line}")
    for number, one in enumerate(found.queries, 1):
        click.echo("")
        _print_query(number, one, verbose=verbose)


def _print_query(number: int, one: ExplainedQuery, *, verbose: bool) -> None:
    click.echo(f"query {number}: {one.name} {one.type} -> {one.rcode}" + (f", block {one.zone}" if one.zone else ""))
    for record in one.records:
        click.echo(f"    {record}")
    click.echo(f"    why: {one.cause}")
    for line in one.objects:
        click.echo(f"    {line}")
    if verbose:
        for step in one.steps:
            mark = "self-query " if step.self_query else ""
            click.echo(f"    {mark}{step.plugin} ({step.place}): {step.name} {step.type}")
