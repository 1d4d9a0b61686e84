"""Finding the upstreams that `forward` names by file or by host. Control does it: hosts once for each Corefile, files again and again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from svcdns.corefile.errors import CorefileError
from svcdns.plugins.forward import tls_files
from svcdns.plugins.forward.options import Options, Rule
from svcdns.plugins.forward.upstream_addresses import DNS_PORT, Named, is_address
from svcdns.telemetry.logging import plugin_logger
from svcdns.upstream.blocking_resolver import ResolveError, addresses_of
from svcdns.upstream.query import Address, shown

PERIOD: Final = 5.0
"""Seconds between two looks at a file."""


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:  # noqa: ARG001 - a new Corefile looks anew
    """The addresses of the upstreams that are no addresses. Blocks where hosts are looked up.

    Raises CorefileError where one cannot be found, or a line ends without any upstream.
    """
    out = tls_files.gather(options)
    for rule in options.rules:
        if rule.left_out:
            text = "Unsupported CIDR notation: only %s of its zones is forwarded, %s are not"
            plugin_logger("forward").warning(text, rule.zone, " ".join(rule.left_out))
        count = 0
        for upstream in rule.upstreams:
            if isinstance(upstream, Named):
                found = _find(upstream, rule)
                out[rule.data_key(upstream)] = msgspec.msgpack.encode(found)
                count += len(found)
            else:
                count += 1
        if not count:
            text = " ".join(upstream.path for upstream in rule.upstreams if isinstance(upstream, Named))
            raise CorefileError(rule.position, f"plugin/forward: no valid upstream addresses found in {text}")
    return out


def period(options: Options) -> float:
    """Seconds between two looks at the files; 0 where there are none."""
    named = [upstream for rule in options.rules for upstream in rule.upstreams if isinstance(upstream, Named)]
    there = any(Path(upstream.path).exists() for upstream in named) or any(any(rule.tls) for rule in options.rules)
    return PERIOD if there else 0.0


def refresh(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """The upstreams of files that name others now, and changed certificates; a file that cannot be used leaves what was known."""
    out = tls_files.refresh(options, known)
    for rule in options.rules:
        for upstream in rule.upstreams:
            if not isinstance(upstream, Named):
                continue
            try:
                found = nameservers(Path(upstream.path).read_bytes())
            except OSError:
                continue
            key, payload = rule.data_key(upstream), msgspec.msgpack.encode(found)
            if found and known.get(key) != payload:
                shown_all = " ".join(map(shown, found))
                plugin_logger("forward").info("%s names other upstreams now: %s", upstream.path, shown_all)
                out[key] = payload
    return out


def unpacked(payload: bytes) -> list[Address]:
    """Addresses as `gather` hands them over."""
    return msgspec.msgpack.decode(payload, type=list[Address])


def _find(upstream: Named, rule: Rule) -> list[Address]:
    try:
        return nameservers(Path(upstream.path).read_bytes())
    except OSError as error:
        if not upstream.host:
            raise CorefileError(rule.position, f"plugin/forward: open {upstream.path}: {(error.strerror or '').lower()}") from error
    try:
        return [(address, upstream.port) for address in addresses_of(upstream.host, rule.resolvers)]
    except ResolveError as error:
        raise CorefileError(rule.position, f"plugin/forward: failed to resolve '{upstream.host}': {error}") from error


def nameservers(content: bytes) -> list[Address]:
    """The `nameserver` lines of a file in the form of resolv.conf, zone ids cut off; lines that hold no address are skipped."""
    out = []
    for line in content.decode(errors="replace").splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) > 1 and words[0] == "nameserver":
            text = words[1].partition("%")[0]
            if is_address(text):
                out.append((text, DNS_PORT))
    return out
