"""Entry point of the control process: `svcdns.control --options JSON --region N --channel FD --shared FD`.

The supervisor starts the process by `svcdns.process.isolated`. At a first start, this module sends the supervisor the
addresses of the DNS ports (`early_ports`). After that, it imports the rest of control and the plugins (`program`).
"""

from __future__ import annotations

import argparse
import gc
import json
import socket
import sys

from svcdns.control import early_ports
from svcdns.process.channel import Channel
from svcdns.process.parent_death import die_with_parent


def main() -> int:
    """Reads the command line, runs the control process until it ends, and returns the exit code."""
    gc.disable()  # while modules are imported; none of their objects is garbage
    parser = argparse.ArgumentParser(prog="svcdns.control")
    parser.add_argument("--options", required=True)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--beside", action="store_true")
    parser.add_argument("--region", type=int, required=True)
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--shared", type=int, required=True)
    arguments = parser.parse_args()
    die_with_parent()
    channel = Channel(socket.socket(fileno=arguments.channel))
    fields = json.loads(arguments.options)
    again = arguments.again or arguments.beside
    loaded = None
    if not again:
        loaded, addresses = early_ports.read(fields["conf"], fields["port"])
        if addresses:
            channel.send({"op": "listen-early", "addresses": addresses})
    from svcdns.control import program
    from svcdns.control.setups import Options

    options = Options(**fields, again=again, beside=arguments.beside, loaded=loaded)
    gc.enable()
    return program.run(options, channel, arguments.shared, arguments.region)


if __name__ == "__main__":
    sys.exit(main())
