"""Limits the rate of replies over UDP (docs/plugins/rrl.md).

The plugin changes nothing in the plugin chain. The responder calls the rate limiter for every reply, even if the reply
comes from the answer table (`svcdns.plugin_api.rate_limit`).
"""

from __future__ import annotations

from typing import Final

from svcdns.plugin_api.contract import Plugin
from svcdns.plugin_api.environment import Environment
from svcdns.plugin_api.networks import packed
from svcdns.plugin_api.query import Query
from svcdns.plugin_api.rate_limit import RateLimiter, Verdict
from svcdns.plugin_api.reply import Increment, Reply
from svcdns.plugin_api.settings import Settings
from svcdns.plugins.rrl.accounts import Accounts
from svcdns.plugins.rrl.options import Options, ReplyClass
from svcdns.telemetry.counters import Family, MetricKind
from svcdns.wire import names
from svcdns.wire.codes import Rcode, Type

RESPONSES_EXCEEDED: Final = Family(
    "coredns_rrl_responses_exceeded_total",
    MetricKind.COUNTER,
    "Counter of responses exceeding QPS limit.",
    ("client_ip",),
)
REQUESTS_EXCEEDED: Final = Family(
    "coredns_rrl_requests_exceeded_total",
    MetricKind.COUNTER,
    "Counter of requests exceeding QPS limit.",
    ("client_ip",),
)
LIMITED: Final = Family(
    "svcdns_rrl_limited_total",
    MetricKind.COUNTER,
    "Queries and replies over a limit of rrl, by class and by what was done.",
    ("server", "class", "action"),
)
SHORTENED: Final = Family(
    "svcdns_rrl_shortened_total",
    MetricKind.COUNTER,
    "Replies that were truncated because they had more than three times the octets of the query.",
    ("server",),
)
MAX_CLIENTS: Final = 64
"""The most addresses that are values of the label `client_ip`. Further clients are counted as OTHER_CLIENTS."""
OTHER_CLIENTS: Final = "other"
_REQUEST: Final = b"\xff"
"""The account of the queries of a network."""
_ACTIONS: Final = {Verdict.DROP: "drop", Verdict.TRUNCATE: "truncate"}


class Rrl(Plugin):
    """The plugin `rrl` of one block, which provides the block's rate limiter."""

    name = "rrl"
    reads_nothing = True

    @classmethod
    def settings(cls, options: Options) -> Settings:
        """Returns settings with a warning for each word of the Corefile that has no effect."""
        return Settings(warnings=options.warnings)

    def __init__(self, options: Options, environment: Environment) -> None:
        self._limiter = Limiter(options, environment)

    def rate_limiter(self) -> RateLimiter:
        """Returns the rate limiter of the block."""
        return self._limiter

    def name_independent(self, zone: bytes) -> bool:  # noqa: ARG002 - the same for all zones
        """Returns True: the plugin changes no reply in the plugin chain."""
        return True


class Limiter:
    """The accounts of one block in one worker."""

    error_account = bytes((ReplyClass.ERROR,))

    def __init__(self, options: Options, environment: Environment) -> None:
        """Takes the clock, the counters and the server label of `environment`."""
        self._zones = tuple(names.from_text(zone).lower() for zone in options.zones)
        self._accounts = Accounts(options.table_size, options.window, options.slip_ratio)
        self._intervals = [_interval(rate) for rate in options.allowances]
        self._request_interval = _interval(options.requests)
        self._report_only = options.report_only
        self._ipv4, self._ipv6 = _mask(options.ipv4_prefix), _mask(options.ipv6_prefix)
        self._counters, self._now, self._server = environment.counters, environment.clock, environment.server
        self._clients: set[str] = set()

    def covers(self, key: bytes) -> bool:
        """Returns True if the name is in one of the plugin's zones."""
        return any(names.is_within(key, zone) for zone in self._zones)

    def account(self, query: Query, reply: Reply) -> bytes:
        """Returns the name of the account that a reply belongs to: its class, a type and a name as octets."""
        kind = _class_of(reply)
        if kind is ReplyClass.ERROR:
            return self.error_account
        name, rtype = query.key, query.rtype
        if kind in (ReplyClass.NXDOMAIN, ReplyClass.REFERRAL):
            name = reply.authority[0].owner.lower() if reply.authority else b""
        if kind in (ReplyClass.NODATA, ReplyClass.NXDOMAIN):
            rtype = 0
        return bytes((kind, rtype >> 8, rtype & 0xFF)) + name

    def admits(self, address: str) -> bool:
        """Debits the account for queries of the client's network. Returns False if the query must be dropped."""
        interval = self._request_interval
        if not interval:
            return True
        verdict = self._accounts.debit(hash((self._network(address), _REQUEST)), interval, self._now())
        if verdict is Verdict.SEND:
            return True
        self._counters.count(REQUESTS_EXCEEDED, self._label(address))
        self._count("request", Verdict.DROP)
        return self._report_only

    def debit(self, address: str, account: bytes) -> Verdict:
        """Debits the account for the client's network, and returns what to do with the reply."""
        interval = self._intervals[account[0]]
        if not interval:
            return Verdict.SEND
        verdict = self._accounts.debit(hash((self._network(address), account)), interval, self._now())
        if verdict is Verdict.SEND:
            return verdict
        self._counters.count(RESPONSES_EXCEEDED, self._label(address))
        self._count(ReplyClass(account[0]).name.lower(), verdict)
        return Verdict.SEND if self._report_only else verdict

    def count_shortened(self) -> Increment:
        """Counts a reply that is truncated because it is much longer than its query."""
        cell = self._counters.cell(SHORTENED, self._server)
        self._counters.add(cell)
        return cell, 1.0

    def _count(self, kind: str, verdict: Verdict) -> None:
        self._counters.count(LIMITED, self._server, kind, "report" if self._report_only else _ACTIONS[verdict])

    def _label(self, address: str) -> str:
        if address in self._clients:
            return address
        if len(self._clients) >= MAX_CLIENTS:
            return OTHER_CLIENTS
        self._clients.add(address)
        return address

    def _network(self, address: str) -> bytes:
        """Returns the client's network as octets. All clients without an IP address are in one network."""
        octets = packed(address)
        if octets is None:
            return b""
        whole, last = self._ipv4 if len(octets) == 4 else self._ipv6
        return octets[:whole] + bytes((octets[whole] & last,)) if last else octets[:whole]


def _class_of(reply: Reply) -> ReplyClass:
    if reply.answer:
        return ReplyClass.RESPONSE
    if reply.rcode == Rcode.NXDOMAIN:
        return ReplyClass.NXDOMAIN
    if reply.rcode != Rcode.NOERROR:
        return ReplyClass.ERROR
    if reply.authority and reply.authority[0].rtype == Type.NS:
        return ReplyClass.REFERRAL
    return ReplyClass.NODATA


def _interval(rate: float) -> float:
    """Returns the seconds between two replies at `rate` replies per second. Returns 0 if the rate is not limited."""
    return 1.0 / rate if rate else 0.0


def _mask(length: int) -> tuple[int, int]:
    """Returns the number of whole octets in a prefix of `length` bits, and the mask for the next octet."""
    whole, bits = divmod(length, 8)
    return whole, 0xFF << 8 - bits & 0xFF


PLUGIN: Final = Rrl
