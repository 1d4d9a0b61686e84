"""`svcdns interface`: the network interface with the address of a node-local DNS server (docs/node-local.md)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import click

from svcdns.cli.errors import CannotRun
from svcdns.process import local_interface

DEFAULT = "dummy-svcdns"
EXAMPLES = """\b
Examples:
  svcdns interface add 169.254.20.10
  svcdns interface remove
"""
_name = click.option("--name", default=DEFAULT, show_default=True, help="The name of the interface.")


@click.group(epilog=EXAMPLES, short_help="Add or remove the interface of a node-local server.")
def interface() -> None:
    """Adds and removes a network interface whose addresses stay on the machine.

    Needs Linux, and the capability NET_ADMIN.
    """


@interface.command(short_help="Add the interface and its address.")
@click.argument("address")
@_name
def add(address: str, name: str) -> int:
    """Adds a dummy interface with ADDRESS, and turns it on.

    If there is a dummy interface of this name, adds the address to it. If the kernel has no dummy interfaces, adds a
    bridge without ports.

    Exit code: 0 if the interface has the address now, 2 otherwise.
    """
    parsed = _parsed(address)
    try:
        created = local_interface.add(name, parsed)
    except local_interface.InterfaceError as error:
        raise CannotRun(str(error)) from error
    click.echo(f"{name}: {'added, with' if created else 'has'} the address {parsed}")
    return 0


@interface.command(short_help="Remove the interface.")
@_name
def remove(name: str) -> int:
    """Removes the interface that 'svcdns interface add' has added, with its addresses.

    Exit code: 0 if there is no such interface now, 2 if it could not be removed.
    """
    try:
        removed = local_interface.remove(name)
    except local_interface.InterfaceError as error:
        raise CannotRun(str(error)) from error
    click.echo(f"{name}: {'removed' if removed else 'there is no such interface'}")
    return 0


def _parsed(text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError as error:
        raise CannotRun(f"{text!r} is no IP address") from error
