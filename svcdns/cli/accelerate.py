"""`svcdns accelerate`: attaches the program that answers queries in the kernel."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn

import click

from svcdns.accelerator.helper import Attachment, Helper
from svcdns.accelerator.protocol import DEFAULT_SOCKET, IMAGE_UID, AcceleratorError
from svcdns.cli.errors import CannotRun
from svcdns.log_line import LogLine
from svcdns.telemetry import logging as log_lines

EXAMPLES = """\b
Examples:
  svcdns accelerate
  svcdns accelerate --interface eth0 --stay
  svcdns accelerate --uid 1000 --uid 1001
  svcdns accelerate --socket /run/svcdns/accelerator.sock
"""


class _Stopped(BaseException):
    """Raised by the handler of SIGTERM and SIGINT."""


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # a second signal must not interrupt the end
    raise _Stopped


@click.command(epilog=EXAMPLES, short_help="Answer frequent queries in the kernel (a sidecar of the server).")
@click.option("--interface", metavar="NAME", help="The interface of the Pod.  [default: that of the default route]")
@click.option(
    "--socket", "address", metavar="ADDRESS", default=DEFAULT_SOCKET, show_default=True,
    help="The socket to which the server connects: a path, or @NAME for an abstract name.",
)  # fmt: skip
@click.option(
    "--uid", "users", metavar="UID", type=click.IntRange(0), multiple=True, default=(IMAGE_UID,), show_default=True,
    help="A user whose processes may connect, in addition to root. Can be repeated.",
)  # fmt: skip
@click.option(
    "--stay",
    is_flag=True,
    help="Continue to run if the program cannot be attached, so that the Pod starts. The server logs the reason.",
)
def accelerate(interface: str | None, address: str, users: tuple[int, ...], stay: bool) -> int:
    """Attaches a program to the network interface of the Pod. The program answers queries in the kernel, with replies
    that the DNS server writes into shared memory.

    Run this command in the Pod of the server, with the capabilities BPF and NET_ADMIN. The server connects if its
    environment variable SVCDNS_ACCELERATOR has the value ADDRESS. Name the user of the server with --uid. The program
    is detached when this command or the server ends.

    Exit code: 0 after SIGTERM or SIGINT, 2 if the command cannot run.
    """
    if sys.platform != "linux":
        raise CannotRun("the accelerator needs Linux")
    writer = log_lines.set_up()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        helper = Helper(address, Attachment(interface), users)
        try:
            _serve(helper, address, stay)
        except _Stopped:
            return 0
        finally:
            helper.close()
    except AcceleratorError as error:
        raise CannotRun(str(error)) from error
    except _Stopped:
        return 0
    finally:
        writer.close()


def _serve(helper: Helper, address: str, stay: bool) -> NoReturn:
    try:
        checked = helper.check()
    except AcceleratorError as error:
        if not stay:
            raise
        helper.note_failure(str(error))
    else:
        ready = LogLine("accelerator ready", interface=checked.name, addresses=checked.addresses, socket=address)
        log_lines.write_info(ready)
    while True:
        helper.serve_once()
