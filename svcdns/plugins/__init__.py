"""The plugins: their order in every chain, and where each one lives.

`ORDER` is CoreDNS's list of directives, which fixes the chain whatever the order in the Corefile; a directive that is not in
`BUILT` is known but not built yet. Nothing registers itself: a module is imported when a Corefile names its directive.
"""

from __future__ import annotations

from typing import Final

ORDER: Final = (
    "root", "metadata", "geoip", "cancel", "proxyproto", "quic", "grpc_server", "https", "https3", "timeouts", "multisocket", "reload",
    "nsid", "bufsize", "bind", "debug", "trace", "ready", "health", "pprof", "shed",
    "prometheus",  # outside errors: counts what errors reports
    "errors",
    "log",  # outside cache: sees hits too
    "dnstap", "local", "dns64", "any", "chaos",
    "loadbalance",  # outside cache: every hit is shuffled anew
    "tsig",
    "rewrite",  # before cache: the cache sees rewritten names
    "autopath",
    "acl",  # before cache: policy covers cached answers
    "cache", "header", "dnssec", "tls", "minimal",
    "template", "transfer", "hosts",  # before kubernetes: may shadow cluster names
    "route53", "azure", "clouddns", "k8s_external",
    "kubernetes",  # before forward: cluster zones never leak
    "file", "auto", "secondary", "etcd", "loop", "forward", "grpc", "erratic", "whoami", "on", "sign", "view", "nomad",
)  # fmt: skip

BUILT: Final[dict[str, str]] = {
    name: f"svcdns.plugins.{name}"
    for name in (
        "root", "reload", "bind", "debug", "ready", "health", "prometheus", "errors", "log", "loadbalance", "cache",
        "k8s_external", "kubernetes", "file", "loop", "forward", "transfer", "whoami", "multisocket",
        "acl", "autopath", "dns64", "hosts", "timeouts", "tls",
        "nsid", "bufsize", "local", "any", "chaos", "header", "minimal", "rewrite", "template",
    )
}  # fmt: skip
