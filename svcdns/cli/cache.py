"""`svcdns cache`: lists and flushes the stored replies of a running server."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from svcdns.cli.errors import CannotRun
from svcdns.cli.server_socket import ask
from svcdns.cli.types import RECORD_TYPE, ZONE
from svcdns.control.cache_pages import CachedReply, CacheFlush, CacheList, schemas
from svcdns.plugins.admin import DEFAULT

EXAMPLES = """\b
Examples:
  svcdns cache list --zone svc.cluster.local
  svcdns cache lookup www.example.com AAAA
  svcdns cache flush www.example.com
  svcdns cache flush --zone example.com --socket /tmp/svcdns-admin.sock --output json
"""

_SOCKET = click.option(
    "--socket", "path", metavar="PATH", default=DEFAULT, show_default=True,
    help="The socket of the plugin 'admin' in the server's Corefile.",
)  # fmt: skip
_OUTPUT = click.option(
    "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Output format."
)


@click.group("cache", epilog=EXAMPLES, short_help="List and flush the stored replies of a running server.")
def cache() -> None:
    """Lists, looks up and flushes the replies that the answer tables and the plugin cache of all workers store.

    The server's Corefile must have the plugin 'admin', and the command must run as the user of the server.

    Exit code: 0 if done, 1 if `lookup` finds nothing, 2 if the command could not run.
    """


@cache.command("list", epilog=EXAMPLES, short_help="List stored replies.")
@click.option("--zone", default=".", type=ZONE, help="Only replies for names in this zone.")
@click.option(
    "--limit",
    default=1000,
    type=click.IntRange(1, 50_000),
    show_default=True,
    help="The most rows; a row may stand for several replies (COUNT).",
)
@_SOCKET
@_OUTPUT
@click.option("--schema", "show_schema", is_flag=True, is_eager=True, help="Print the JSON schema.")
def list_command(zone: str, limit: int, path: str, output: str, show_schema: bool) -> int:
    """Lists the stored replies, sorted by name.

    Replies with the same name, type and response code in one store are one row.
    """
    if show_schema:
        return _print_schema("cache-list.json")
    found = ask(path, "cache", {"zone": zone, "limit": str(limit)}, CacheList)
    _print_list(found, output)
    return 0


@cache.command("lookup", epilog=EXAMPLES, short_help="Look up the stored replies for a name.")
@click.argument("name", type=ZONE)
@click.argument("rtype", metavar="[TYPE]", required=False, default=None, type=RECORD_TYPE)
@_SOCKET
@_OUTPUT
def lookup(name: str, rtype: str | None, path: str, output: str) -> int:
    """Lists the stored replies for NAME, and for TYPE if it is given."""
    query = {"name": name, **({"type": rtype} if rtype else {})}
    found = ask(path, "cache", query, CacheList)
    _print_list(found, output)
    if not found.total:
        click.echo(f"{name} was looked up as a full name: no search path is used", err=True)
    return 0 if found.total else 1


@cache.command("flush", epilog=EXAMPLES, short_help="Remove stored replies.")
@click.argument("name", required=False, default=None, type=ZONE)
@click.argument("rtype", metavar="[TYPE]", required=False, default=None, type=RECORD_TYPE)
@click.option("--zone", default=None, type=ZONE, help="Remove the replies for all names in this zone; '.' for all.")
@_SOCKET
@_OUTPUT
@click.option("--schema", "show_schema", is_flag=True, is_eager=True, help="Print the JSON schema.")
def flush(name: str | None, rtype: str | None, zone: str | None, path: str, output: str, show_schema: bool) -> int:
    """Removes the stored replies for NAME, and for TYPE if it is given, or for all names of a zone, in all workers."""
    if show_schema:
        return _print_schema("cache-flush.json")
    if (name is None) == (zone is None):
        raise CannotRun("a NAME or --zone was expected, and not both")
    query = {"name": name} if name is not None else {"zone": str(zone)}
    found = ask(path, "cache/flush", {**query, **({"type": rtype} if rtype else {})}, CacheFlush, "POST")
    if output == "json":
        _print_json(found)
    else:
        replies = f"{found.flushed} repl{'y' if found.flushed == 1 else 'ies'}"
        stores = ", ".join(f"{count} from {store}" for store, count in found.stores.items())
        click.echo(
            f"flushed {replies} in {len(found.workers)} worker{'' if len(found.workers) == 1 else 's'}: {stores}"
        )
    return 0


def _print_schema(file: str) -> int:
    _print_json(schemas()[file])
    return 0


def _print_json(document: Any) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(document)).decode())


def _print_list(found: CacheList, output: str) -> None:
    if output == "json":
        _print_json(found)
        return
    rows: list[tuple[str, ...]] = [("NAME", "TYPE", "RCODE", "STORE", "TTL", "EXPIRES", "HITS", "COUNT", "SERVER")]
    rows += [_texts(one) for one in found.replies]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        click.echo(click.style(line, bold=True) if not number else line)
    shown = sum(one.count for one in found.replies)
    text = f"; the {len(found.replies)} rows above stand for {shown} of them (see --limit)"
    click.echo(
        f"{found.total} stored repl{'y' if found.total == 1 else 'ies'}" + (text if shown != found.total else "")
    )


def _texts(one: CachedReply) -> tuple[str, ...]:
    expires = "at a change" if one.expires_in is None else "stale" if one.expires_in <= 0 else f"{one.expires_in:.0f} s"
    hits = "-" if one.hits is None else str(one.hits)
    return one.name, one.type, one.rcode, one.store, str(one.ttl), expires, hits, str(one.count), one.server
