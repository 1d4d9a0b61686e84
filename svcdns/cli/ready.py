"""`svcdns ready`: whether a running server is ready, for a probe of a Pod that shares its ports with another Pod."""

from __future__ import annotations

import click

from svcdns.cli.server_socket import missing
from svcdns.plugins.admin import DEFAULT

EXAMPLES = """\b
Examples:
  svcdns ready
  svcdns ready --socket /tmp/svcdns-admin.sock
"""


@click.command(epilog=EXAMPLES, short_help="Say whether a running server is ready.")
@click.option(
    "--socket", "path", metavar="PATH", default=DEFAULT, show_default=True,
    help="The socket of the plugin 'admin' in the server's Corefile.",
)  # fmt: skip
def ready(path: str) -> int:
    """Requests the page /ready over the socket of the plugin 'admin'.

    Unlike a request over TCP, the request reaches this server only, although another server has the same ports.

    Exit code: 0 if the server is ready, 1 if it is not, 2 if the command could not run.
    """
    reason = missing(path)
    click.echo(reason or "OK")
    return 1 if reason else 0
