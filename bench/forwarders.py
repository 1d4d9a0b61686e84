"""Unbound and dnsdist as forwarders with persistent connections to one server, and Unbound as a second name server."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from bench.lookups import SERVICE, SERVICE_ADDRESS
from bench.processes import kill_tree, spawn, until

PORT, TLS_PORT = 53, 853
TLS_NAME = "dns.test"
_FQDN: Final = f"{SERVICE}.svc.cluster.local."
_UNBOUND = """server:
  interface: {address}@{port}
  do-daemonize: no
  use-syslog: no
  username: ""
  chroot: ""
  directory: "{folder}"
  pidfile: ""
  module-config: "iterator"
  do-not-query-localhost: no
  num-threads: 1
"""
_FORWARD = {
    "UDP": "  forward-addr: 127.0.0.1@{dns}\n",
    "TCP": "  forward-addr: 127.0.0.1@{dns}\n  forward-tcp-upstream: yes\n",
    "DoT": "  forward-addr: 127.0.0.1@{dot}#{tls_name}\n  forward-tls-upstream: yes\n",
}
_DNSDIST = {
    "UDP": 'address="127.0.0.1:{dns}"',
    "TCP": 'address="127.0.0.1:{dns}", tcpOnly=true',
    "DoT": 'address="127.0.0.1:{dot}", tls="openssl", caStore="{authority}", subjectName="{tls_name}"',
}
TRANSPORTS = tuple(_FORWARD)


def unbound(folder: Path, port: int, transport: str, authority: Path) -> list[str]:
    """Writes the configuration of an Unbound forwarder, and returns the command line."""
    places = {"dns": PORT, "dot": TLS_PORT, "tls_name": TLS_NAME}
    text = _UNBOUND.format(address="127.0.0.1", port=port, folder=folder)
    text += f'  tls-cert-bundle: "{authority}"\nforward-zone:\n  name: "."\n' + _FORWARD[transport].format(**places)
    return _unbound(folder, text)


def second_name_server(folder: Path, address: str) -> list[str]:
    """Writes the configuration of a name server that answers for the tested Service, and returns the command line."""
    text = _UNBOUND.format(address=address, port=PORT, folder=folder)
    text += f'  local-zone: "cluster.local." static\n  local-data: "{_FQDN} 5 IN A {SERVICE_ADDRESS}"\n'
    return _unbound(folder, text)


def _unbound(folder: Path, text: str) -> list[str]:
    (folder / "conf").write_text(text + "remote-control:\n  control-enable: no\n")
    return ["unbound", "-d", "-c", str(folder / "conf")]


def dnsdist(folder: Path, port: int, transport: str, authority: Path) -> list[str]:
    """Writes the configuration of dnsdist as a forwarder with health checks every second, and returns the command
    line.
    """
    upstream = _DNSDIST[transport].format(dns=PORT, dot=TLS_PORT, tls_name=TLS_NAME, authority=authority)
    (folder / "conf").write_text(
        f'setLocal("127.0.0.1:{port}")\nsetSecurityPollSuffix("")\nsetServFailWhenNoServer(true)\n'
        f'newServer({{{upstream}, checkName="{_FQDN}", mustResolve=true}})\n'
    )
    return ["dnsdist", "--supervised", "--disable-syslog", "-C", str(folder / "conf")]


FORWARDERS = {"Unbound": unbound, "dnsdist": dnsdist}


class NameServer:
    """A running program that serves DNS."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._log = folder / "log"
        with self._log.open("ab") as log:
            self.process = spawn(command, sorted(os.sched_getaffinity(0)), stdout=log, stderr=subprocess.STDOUT)

    @property
    def log(self) -> str:
        """Returns the output of the program so far."""
        return self._log.read_text(errors="replace")

    def until_logged(self, text: str, timeout: float = 30.0, count: int = 1) -> None:
        """Waits until the program's output contains `text` at least `count` times.

        Raises TimeoutError after `timeout` seconds.
        """
        until(f"{text!r} in the log", lambda: self.log.count(text) >= count, timeout, 0.01)

    def kill(self) -> None:
        """Kills the program."""
        kill_tree(self.process)
