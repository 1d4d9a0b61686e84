"""Checks a Corefile, and computes the settings that follow from it (`Setup`), except the plugin chains.

A plugin's `Settings` contain what its directive configures; this module knows no plugin by name. The module reads no
file but the Corefile. The order of the checks is in docs/behaviour/corefile.md#errors.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import psutil

from svcdns import plugins
from svcdns.chain.plan import BlockPlan, own_blocks, plan
from svcdns.cluster.watch_options import SnapshotOptions, WatchOptions, encode_watch
from svcdns.control.early_ports import Address
from svcdns.control.plugin_data import PluginData, gather, plugin_files
from svcdns.corefile.blocks import Corefile, Position
from svcdns.corefile.directives import check_directives
from svcdns.corefile.env_options import variable, with_options
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.keys import check_overlap
from svcdns.corefile.load import load
from svcdns.corefile.transports import OVER_QUIC, PROTOCOLS, TLS_REQUIRED
from svcdns.log_line import LogLine
from svcdns.plugin_api.settings import EventCommand, HttpPage, ReloadInterval, Settings
from svcdns.telemetry.logging import plugin_logger

log = logging.getLogger("svcdns")


class WatchedCluster(NamedTuple):
    """A cluster to watch, and the options of its snapshot.

    `snapshot` is None if no snapshot is configured. `plugin` and `position` are the name and the position of the
    directive that configures the cluster.
    """

    options: WatchOptions
    position: Position
    snapshot: SnapshotOptions | None = None
    plugin: str = "kubernetes"


@dataclass(frozen=True, slots=True)
class Setup:
    """A checked Corefile, and the settings that follow from it.

    - `written` is the Corefile as it was read. `corefile` also has the options from environment variables.
    - `hosts` has the listening addresses of each block, `("",)` for all addresses.
    - `views` has the clusters to watch, by encoded watch options.
    - `data` has the content of the files that plugins have read.
    - `local_addresses` are the addresses of this machine, without loopback addresses.
    """

    written: Corefile
    corefile: Corefile
    plans: tuple[BlockPlan, ...]
    hosts: tuple[tuple[str, ...], ...]
    views: Mapping[bytes, WatchedCluster]
    data: PluginData
    local_addresses: tuple[str, ...]

    @property
    def settings(self) -> list[Settings]:
        """Returns the settings of every directive, in the order of the blocks."""
        return [settings for block in self.plans for settings in block.settings.values()]

    @property
    def listen(self) -> list[Address]:
        """Returns the addresses of the transports `dns` and `tls`, in the order of the Corefile."""
        return self._addresses(encrypted=False)

    @property
    def encrypted_listen(self) -> list[Address]:
        """Returns the addresses of the encrypted transports, for which a worker of its own listens."""
        return self._addresses(encrypted=True)

    def _addresses(self, *, encrypted: bool) -> list[Address]:
        plans, hosts = own_blocks(self.plans, self.hosts, encrypted=encrypted)
        pairs = zip(plans, hosts, strict=True)
        listeners = ((host, key.port, key.transport) for block, hosts in pairs for key in block.keys for host in hosts)
        return list(
            dict.fromkeys(
                (host, port, protocol) for host, port, transport in listeners for protocol in PROTOCOLS[transport]
            )
        )

    @property
    def zones(self) -> list[str]:
        """Returns the lines that a start prints, one for each listener.

        Examples: `example.org.:53`, `tls://example.org.:853`. For an address of `bind`, ` on <address>` is appended.
        """
        lines = [
            ("" if key.transport == "dns" else f"{key.transport}://")
            + f"{key.zone}:{key.port}"
            + (f" on {host}" if host else "")
            for block, hosts in zip(self.plans, self.hosts, strict=True)
            for key in block.keys
            for host in hosts
        ]
        return list(dict.fromkeys(lines))  # blocks with views may have the same keys

    @property
    def lameduck(self) -> float:
        """Returns the seconds for which DNS is still served after a stop was requested: the maximum of all blocks."""
        return max((one.lameduck for one in self.settings if one.lameduck is not None), default=0.0)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Returns log lines about the parts of the Corefile that are ignored."""
        own = tuple(line.removeprefix("Warning: ") for line in self.corefile.warnings)
        return own + tuple(line for one in self.settings for line in one.warnings)

    @property
    def commands(self) -> tuple[EventCommand, ...]:
        """The commands of all blocks, in their order."""
        return tuple(command for one in self.settings for command in one.commands)

    @property
    def workers(self) -> int:
        """Returns the number of workers: the maximum of all blocks."""
        return max((one.workers for one in self.settings if one.workers is not None), default=1)

    @property
    def startup_timeout(self) -> float:
        """Returns the seconds after which a start no longer waits for the first lists: the maximum of all blocks."""
        return max((one.startup_timeout for one in self.settings if one.startup_timeout is not None), default=0.0)

    @property
    def debug(self) -> bool:
        """Returns True if any block turns on log lines of level DEBUG."""
        return any(one.debug for one in self.settings)

    @property
    def reload(self) -> ReloadInterval | None:
        """Returns the interval at which the Corefile is read again. If several blocks set it, the last one is used."""
        return next((one.reload for one in reversed(self.settings) if one.reload is not None), None)

    @property
    def pages(self) -> list[HttpPage]:
        """Returns the HTTP pages that the Corefile turns on, with their addresses."""
        return [one.page for one in self.settings if one.page is not None]

    @property
    def optional_pages(self) -> dict[tuple[str, int], str]:
        """Returns the addresses that only optional pages have, each with the log text for a failure to bind it."""
        required = {page.address for page in self.pages if not page.failure}
        return {page.address: page.failure for page in reversed(self.pages) if page.address not in required}


def prepare(conf: str | None, port: int) -> Setup:
    """Loads and checks a Corefile, and reads the files that its plugins name.

    Blocks the thread. Raises SvcdnsError.
    """
    setup = check(load(conf, environ=os.environ, default_port=port))
    return replace(setup, data=gather(plugin_files(setup.plans), {}))


def check(corefile: Corefile, state: str | None = None) -> Setup:
    """Checks a loaded Corefile, and returns its settings without the data of plugins. Raises SvcdnsError.

    `state` is the path of the state folder, for the plugins that use it.
    """
    environ = os.environ if state is None else {**os.environ, variable("state"): f'"{state}"'}
    order, available = plugins.known(_directives(corefile))
    check_directives(corefile, (*order, "import"), available)
    written, corefile = corefile, with_options(corefile, _environment_options(corefile), environ)
    plans = plan(corefile, order, plugins.load)
    found = interfaces()
    hosts = tuple(bound_hosts(block, found) for block in plans)
    check_overlap(corefile.blocks, hosts, [number for number, block in enumerate(plans) if block.has_view])
    check_certificates(plans, hosts)
    own = [address for addresses in found.values() for address in addresses]
    local = tuple(dict.fromkeys(address for address in own if _is_for_records(address)))
    return Setup(written, corefile, plans, hosts, _views(plans), {}, local)


def _environment_options(corefile: Corefile) -> dict[str, tuple[str, ...]]:
    """Returns the options that environment variables can set, by plugin. Only plugins in the Corefile are included."""
    return {name: getattr(plugins.load(name), "ENVIRONMENT", ()) for name in sorted(_directives(corefile) - {"import"})}


def _directives(corefile: Corefile) -> set[str]:
    return {directive.name.text for block in corefile.blocks for directive in block.directives}


def _views(plans: tuple[BlockPlan, ...]) -> dict[bytes, WatchedCluster]:
    out: dict[bytes, WatchedCluster] = {}
    for block in plans:
        for name, settings in block.settings.items():
            if settings.watch is not None:
                watched = WatchedCluster(settings.watch, _position(block, name), settings.snapshot, name)
                encoded = encode_watch(settings.watch)
                out[encoded] = _joined(out[encoded], watched) if encoded in out else watched
    return out


def _joined(first: WatchedCluster, other: WatchedCluster) -> WatchedCluster:
    """Returns the one watch for two blocks with the same watch options.

    Raises CorefileError if the blocks have different snapshot options.
    """
    if first.snapshot is None or other.snapshot is None:
        return first._replace(snapshot=first.snapshot or other.snapshot)
    if first.snapshot != other.snapshot:
        where = f"{first.position.file}:{first.position.line}"
        text = f"plugin/{other.plugin}: this watches the same as the block at {where}, but with another snapshot"
        raise CorefileError(other.position, text)
    return first


def check_certificates(plans: tuple[BlockPlan, ...], hosts: Sequence[Sequence[str]]) -> None:
    """Raises CorefileError for a TLS listener without a certificate. CoreDNS would serve clear text there."""
    pairs = tuple(zip(plans, hosts, strict=True))
    served = {
        (host, key.port, key.transport)
        for block, bound in pairs
        if _certifying(block)
        for key in block.keys
        for host in bound
    }
    for block, bound in pairs:
        for key in block.keys:
            if key.transport == "dns" or all((host, key.port, key.transport) in served for host in bound):
                continue
            text = f"{key.transport}://{key.zone}:{key.port} has no certificate"
            if key.transport in TLS_REQUIRED:
                text += ": a directive 'tls CERT KEY' was expected in its block"
                raise CorefileError(key.position, text)
            place, name = f"{key.position.file}:{key.position.line}", f"{key.transport}://{key.zone}:{key.port}"
            log.warning(LogLine("a key has no certificate: queries come in clear text", position=place, key=name))
        plugin = _certifying(block)
        unverified = [key for key in block.keys if key.transport in OVER_QUIC]
        if plugin and block.settings[plugin].verifies_clients and unverified:
            text = f"plugin/{plugin}: client_auth is not supported by {unverified[0].transport}:// listeners"
            raise CorefileError(_position(block, plugin), text)
        if plugin and all(key.transport == "dns" for key in block.keys):
            position = _position(block, plugin)
            place = f"{position.file}:{position.line}"
            plugin_logger(plugin).warning(
                LogLine("the block has no key of a transport with TLS: its certificate is not used", position=place)
            )


def _certifying(block: BlockPlan) -> str:
    """Returns the name of the plugin that configures the block's certificate, or an empty text."""
    return next((name for name, settings in block.settings.items() if settings.certificate is not None), "")


def _position(block: BlockPlan, plugin: str) -> Position:
    return block.block(plugin).directives[0].position


def interfaces() -> dict[str, list[str]]:
    """Returns the addresses of each network interface, without prefix length.

    IPv6 link-local addresses keep their zone, as in `fe80::1%eth0`.
    """
    families = (socket.AF_INET, socket.AF_INET6)
    return {
        name: [address.address for address in addresses if address.family in families]
        for name, addresses in psutil.net_if_addrs().items()
    }


def _is_for_records(text: str) -> bool:
    """Returns True if records may contain this address of the machine: it is neither loopback nor IPv6 link-local."""
    address = ipaddress.ip_address(text)
    return not address.is_loopback and not (address.version == 6 and address.is_link_local)


def bound_hosts(block: BlockPlan, interfaces: Mapping[str, list[str]]) -> tuple[str, ...]:
    """Returns the addresses to listen on for a block, `("",)` for all addresses."""
    out: list[str] = []
    bound = False
    for plugin, settings in block.settings.items():
        for line in settings.bind:
            bound = True
            without = {address for text in line.without for address in _addresses(text, interfaces) or [text]}
            for text in line.places:
                found = _addresses(text, interfaces)
                if not found:
                    raise CorefileError(
                        _position(block, plugin), f"plugin/{plugin}: not a valid IP address or interface name: '{text}'"
                    )
                out += [address for address in found if address not in without]
    return tuple(dict.fromkeys(out)) if bound else ("",)


def _addresses(text: str, interfaces: Mapping[str, list[str]]) -> list[str]:
    """Returns the addresses of the interface named `text`.

    Returns `text` itself if it is an address, otherwise an empty list.
    """
    if text in interfaces:
        return interfaces[text]
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return []
    return [text]
