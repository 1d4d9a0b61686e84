"""Directives from other builds and versions of CoreDNS, and advice about each of them.

Sources: coredns.io/explugins for external plugins, CoreDNS's release notes for removed ones.
"""

from __future__ import annotations

from typing import Final

_REMOVED: Final = {
    "proxy": "CoreDNS 1.5.0 removed 'proxy'; write 'forward . ADDRESS' instead",
    "federation": "CoreDNS 1.7.0 removed 'federation'; delete the directive",
    "upstream": "CoreDNS 1.7.0 removed 'upstream'; delete the directive",
    "reverse": "CoreDNS 1.2.0 removed 'reverse'; write a 'template' for the names",
    "startup": "CoreDNS 1.5.0 removed 'startup'; delete the directive",
    "shutdown": "CoreDNS 1.5.0 removed 'shutdown'; delete the directive",
}

_EXTERNAL: Final = frozenset(
    (
        "ads", "alias", "alternate", "amazondns", "bitcoin", "blocklist", "demo", "docker", "dockerdiscovery", "dump",
        "edge", "ens", "etcdstandalone", "example", "fanout", "filter", "finalize", "firewall", "gathersrv", "git",
        "gslb", "handshake", "idetcd", "ipecho", "ipin", "ipset", "k8s_cache", "k8s_crd", "k8s_dns_chaos",
        "k8s_event", "k8s_gateway", "keydb", "kubenodes", "kubernetai", "lighthouse", "mdns", "meship", "multicluster",
        "mysql", "netbox", "nodeview", "nomad_services", "opa", "pdsql", "policy", "postgresql", "records", "recursor",
        "redis", "redisc", "rfc1035", "rpz", "split", "tailscale", "tailscale_acme", "unbound", "warnlist", "wgsd",
        "wireguard", "consul", "onlyone", "ens_resolver", "meshdns", "cluster-proportional", "sinkhole", "cnames",
        "externalip", "fallback", "ptrgen", "rrset",
    )
)  # fmt: skip


_REMOVED_OPTIONS: Final = {
    ("kubernetes", "upstream"): "1.7.0",
    ("kubernetes", "resyncperiod"): "1.7.0",
}
"""The options that CoreDNS had and that did nothing any more when they were removed, with the version without them."""


def mend_option(plugin: str, message: str) -> str:
    """Returns the advice about the error `message` of a plugin's option, or an empty text if there is none."""
    for (name, option), version in _REMOVED_OPTIONS.items():
        if name == plugin and message.startswith(f"unknown property '{option}'"):
            return f"CoreDNS {version} removed '{option}'; delete the line"
    return ""


def mend_unknown(name: str, message: str) -> tuple[str, str]:
    """Returns the message for a directive that svcdns does not know, and the advice about it.

    `message` is the error of a start. If the directive comes from another build, the hint at a similar name is removed.
    """
    plain = message.partition(" (did you mean ")[0]
    removed = _REMOVED.get(name)
    if removed is not None:
        return plain, removed
    if name in _EXTERNAL:
        return plain, f"'{name}' is an external plugin of CoreDNS; svcdns and CoreDNS's default build do not have it"
    return message, ""
