"""Finds the addresses of upstreams that a `forward` directive names by file or by host name.

The control process looks up hosts once for each Corefile, and reads files at start and every PERIOD seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from svcdns.corefile.errors import CorefileError
from svcdns.log_line import LogLine
from svcdns.plugins.forward import tls_files
from svcdns.plugins.forward.options import Options, Rule
from svcdns.plugins.forward.upstream_addresses import NamedUpstream
from svcdns.telemetry.logging import plugin_logger
from svcdns.upstream.blocking_resolver import ResolveError, addresses_of
from svcdns.upstream.query import Address, address_text
from svcdns.upstream.resolv_conf import nameservers

__all__ = ["PERIOD", "decode", "gather", "nameservers", "period", "refresh"]

PERIOD: Final = 5.0
"""Seconds between two reads of a file."""


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:  # noqa: ARG001 - a new Corefile is looked up anew
    """Returns the addresses and certificates that the workers need for the upstreams. Blocks while it reads files.

    Raises CorefileError if a file cannot be used, if an upstream has no address, or if a rule has no upstream.
    """
    out = tls_files.gather(options)
    for rule in options.rules:
        if rule.left_out:
            line = LogLine(
                "Unsupported CIDR notation: one of its zones is forwarded", zone=rule.zone, left_out=rule.left_out
            )
            plugin_logger("forward").warning(line)
        count = 0
        for upstream in rule.upstreams:
            if isinstance(upstream, NamedUpstream):
                found = _find(upstream, rule)
                out[rule.data_key(upstream)] = msgspec.msgpack.encode(found)
                count += len(found)
            else:
                count += 1
        if not count:
            text = " ".join(upstream.path for upstream in rule.upstreams if isinstance(upstream, NamedUpstream))
            raise CorefileError(rule.position, f"plugin/forward: no valid upstream addresses found in {text}")
    return out


def period(options: Options) -> float:
    """Returns the seconds between two reads of the files that the options name, or 0 if they name no file."""
    named = [upstream for rule in options.rules for upstream in rule.upstreams if isinstance(upstream, NamedUpstream)]
    has_files = any(Path(upstream.path).exists() for upstream in named) or any(any(rule.tls) for rule in options.rules)
    return PERIOD if has_files else 0.0


def refresh(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Reads the resolv.conf and certificate files again, and returns the data that have changed.

    If a file cannot be used, its previous data stay in use.
    """
    out = tls_files.refresh(options, known)
    for rule in options.rules:
        for upstream in rule.upstreams:
            if not isinstance(upstream, NamedUpstream):
                continue
            try:
                found = nameservers(Path(upstream.path).read_bytes())
            except OSError:
                continue
            key, payload = rule.data_key(upstream), msgspec.msgpack.encode(found)
            if found and known.get(key) != payload:
                line = LogLine("upstreams changed", path=upstream.path, upstreams=map(address_text, found))
                plugin_logger("forward").info(line)
                out[key] = payload
    return out


def decode(payload: bytes) -> list[Address]:
    """Returns the addresses that `gather` encoded."""
    return msgspec.msgpack.decode(payload, type=list[Address])


def _find(upstream: NamedUpstream, rule: Rule) -> list[Address]:
    try:
        return nameservers(Path(upstream.path).read_bytes())
    except OSError as error:
        if not upstream.host:
            raise CorefileError(
                rule.position, f"plugin/forward: open {upstream.path}: {(error.strerror or '').lower()}"
            ) from error
    try:
        return [(address, upstream.port) for address in addresses_of(upstream.host, rule.resolvers)]
    except ResolveError as error:
        raise CorefileError(rule.position, f"plugin/forward: failed to resolve '{upstream.host}': {error}") from error
