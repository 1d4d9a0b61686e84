"""Whom the TLS upstreams of `forward` lines are to be, and who we are to them (`tls`). Control reads the files, again and again.

A change that cannot be used leaves what was read before in its place, and is told once.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from svcdns.corefile.errors import CorefileError
from svcdns.plugins.forward.options import Options, Rule
from svcdns.telemetry.logging import plugin_logger
from svcdns.tls.errors import TlsError
from svcdns.tls.material import Material, read, system_authorities


class Held(msgspec.Struct, frozen=True, array_like=True):
    """Material, and what is wrong with what the files hold instead, if anything is."""

    material: Material
    refused: str = ""


def gather(options: Options) -> dict[str, bytes]:
    """What workers need for the lines that have upstreams over TLS. Raises CorefileError."""
    out: dict[str, bytes] = {}
    for rule in options.rules:
        if rule.trust_key:
            try:
                out[rule.trust_key] = msgspec.msgpack.encode(Held(_read(rule)))
            except TlsError as error:
                raise CorefileError(rule.position, f"plugin/forward: {error}") from error
    return out


def refresh(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """What has changed."""
    out: dict[str, bytes] = {}
    for rule in options.rules:
        payload = known.get(rule.trust_key) if any(rule.tls) else None
        if payload is None:
            continue
        before = _unpacked(payload)
        try:
            now = Held(_read(rule))
        except TlsError as error:
            now = msgspec.structs.replace(before, refused=str(error))
            if now != before:
                plugin_logger("forward").error("%s; what was read before stays", error)
        if now != before:
            out[rule.trust_key] = msgspec.msgpack.encode(now)
    return out


def unpacked(payload: bytes) -> Material:
    """The material that `gather` hands over."""
    return _unpacked(payload).material


def _unpacked(payload: bytes) -> Held:
    return msgspec.msgpack.decode(payload, type=Held)


def _read(rule: Rule) -> Material:
    material = read(*rule.tls)
    if not material.authorities:
        material = msgspec.structs.replace(material, authorities=system_authorities())
    return material
