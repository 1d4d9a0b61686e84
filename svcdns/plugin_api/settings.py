"""What a directive configures outside of its plugin chain: for the block, its listeners, or the whole server.

A plugin returns `Settings` from `Plugin.settings(options)`, so the core knows no plugin by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from svcdns.cluster.watch_options import SnapshotOptions, WatchOptions
from svcdns.plugin_api.networks import Network, packed
from svcdns.plugin_api.timeouts import Timeouts
from svcdns.plugin_api.tsig import TsigRules


@dataclass(frozen=True, slots=True)
class BindAddresses:
    """The addresses or interface names to listen on, and those to leave out."""

    places: tuple[str, ...]
    without: tuple[str, ...] = ()


UNIX: Final = "unix:"
"""If the host of an HTTP page's address begins with this word, the rest of the host is the path of a Unix socket."""


@dataclass(frozen=True, slots=True)
class HttpPage:
    """A page that the control process serves over HTTP.

    `path` is `/health`, `/ready`, `/metrics`, `/debug/pprof/`, `/v1/` or `/status/`. `address` is the host and port to
    listen on, or a Unix socket (`UNIX`) and port 0. If the address cannot be bound, the server starts without the page
    and logs `failure`. Without `failure`, the start fails.
    """

    path: str
    address: tuple[str, int]
    failure: str = ""


@dataclass(frozen=True, slots=True)
class ReloadInterval:
    """How often the Corefile is read again.

    The time between two reads is `interval` seconds, varied at random within a range of `jitter` seconds.
    """

    interval: float
    jitter: float


@dataclass(frozen=True, slots=True)
class EventCommand:
    """A command that the control process runs at an event, without a shell.

    `event` is `startup` (the server serves a new Corefile), `shutdown` or `certrenew`. `words` are the program and its
    arguments. Without `waits`, the command runs in the background.
    """

    event: str
    words: tuple[str, ...]
    waits: bool = True


class ProxyPolicy(StrEnum):
    """What is done with the header of the PROXY protocol that a peer sends (plugin *proxyproto*)."""

    USE = "use"
    """The address in the header is the client's. A peer may also send no header."""
    IGNORE = "ignore"
    """The header is read and dropped."""
    REJECT = "reject"
    """A connection or datagram with a header is dropped."""
    SKIP = "skip"
    """Headers are not looked for: they are data."""


@dataclass(frozen=True, slots=True)
class ProxyProtocol:
    """The PROXY protocol of a listener.

    Peers in the networks `allowed` have the policy USE, and all others have `default`. Over UDP, a header is used for
    later datagrams without a header for `session_seconds`; 0 turns this off. At most `sessions` headers are kept.
    """

    allowed: tuple[Network, ...] = ()
    default: ProxyPolicy = ProxyPolicy.USE
    session_seconds: float = 0.0
    sessions: int = 10240

    def policy(self, address: str) -> ProxyPolicy:
        """Returns the policy for a peer with this address (text)."""
        octets = packed(address) if self.allowed else None
        if octets is not None and any(octets in network for network in self.allowed):
            return ProxyPolicy.USE
        return self.default


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """The limits of the listeners of one transport (plugins *https*, *https3*, *quic* and *grpc_server*).

    `max_connections` limits the connections of all clients together, and `max_streams` the streams of a connection. A
    limit is None if it is not configured, and 0 if there is no limit.
    """

    transport: str
    max_connections: int | None = None
    max_streams: int | None = None
    worker_pool_size: int | None = None


NO_LIMITS = TransportLimits("")


@dataclass(frozen=True, slots=True)
class View:
    """A condition for the queries of a server block (plugin *view*).

    `name` is the label `view` of the metrics. `is_per_packet` is True if the condition reads what differs between equal
    packets of a client: its port, or the message id. `reads_local_address` is True if it reads the address that the
    query was sent to.
    """

    name: str
    is_per_packet: bool = False
    reads_local_address: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one directive of one block configures.

    The default of a field means that the directive does not configure it.

    Of the block:

    - `root`: the folder that relative paths start from.
    - `counts_queries`: True to count the block's queries in `coredns_dns_*`.
    - `bind`: the addresses of the block's listeners.
    - `any_class`: True to pass queries of classes other than IN to the plugin chain.
    - `view`: the block gets only queries that the plugin's hook `admits` accepts.
    - `metadata`: the zones, as text, whose queries have metadata; None for no metadata.
    - `udp_size`: the UDP payload size in the OPT records of replies, and the longest reply over UDP, in octets.
    - `tsig`: which queries are verified, and which must be signed (plugin *tsig*).

    Of the block's listeners:

    - `timeouts`: the time limits of TCP and TLS connections.
    - `proxy`: the PROXY protocol of the listeners; None for none.
    - `certificate`: the key of the plugin's data with the certificate of the listeners with TLS.
    - `sheds`: True if UDP sockets keep replies that the kernel does not take (plugin *shed*).
    - `records_traffic`: True if UDP readers write samples of queries to shared memory (plugin *traffic*).
    - `verifies_clients`: True if the listeners with TLS ask clients for certificates.
    - `limits`: the limits of the listeners of one transport.

    Of the server:

    - `workers`: the number of worker processes.
    - `lameduck`: the seconds for which DNS is served after a stop was requested.
    - `startup_timeout`: the seconds to wait for the cluster.
    - `debug`: True to write DEBUG lines to the log.
    - `cluster_zones`: the zones of a cluster, as text, without zones for addresses.
    - `names_pods`: True if control watches Pods, to name clients in samples of queries (plugin *traffic*).
    - `watch`: a cluster to watch, and `snapshot`: where its objects are stored.
    - `page`: a page to serve over HTTP.
    - `reload`: how often the Corefile is read again.
    - `commands`: commands to run at the start and at the stop of the server.
    - `warnings`: lines about words that are ignored, as in CoreDNS. The control process logs them.
    """

    root: str | None = None
    counts_queries: bool = False
    bind: tuple[BindAddresses, ...] = ()
    timeouts: Timeouts | None = None
    proxy: ProxyProtocol | None = None
    certificate: str | None = None
    sheds: bool = False
    records_traffic: bool = False
    verifies_clients: bool = False
    limits: TransportLimits | None = None
    any_class: bool = False
    view: View | None = None
    metadata: tuple[str, ...] | None = None
    udp_size: int | None = None
    tsig: TsigRules | None = None
    workers: int | None = None
    lameduck: float | None = None
    startup_timeout: float | None = None
    debug: bool = False
    cluster_zones: tuple[str, ...] = ()
    names_pods: bool = False
    watch: WatchOptions | None = None
    snapshot: SnapshotOptions | None = None
    page: HttpPage | None = None
    reload: ReloadInterval | None = None
    commands: tuple[EventCommand, ...] = ()
    warnings: tuple[str, ...] = ()


NO_SETTINGS = Settings()
