"""Reads the certificates that the option `tls` names, for upstreams over TLS.

The control process reads the files at start and again every few seconds. If changed files cannot be used, the previous
certificates stay in use, and the error is logged once.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from svcdns.corefile.errors import CorefileError
from svcdns.log_line import LogLine
from svcdns.plugins.forward.options import Options, Rule
from svcdns.telemetry.logging import plugin_logger
from svcdns.tls.errors import TlsError
from svcdns.tls.material import Material, read, system_authorities


class FileState(msgspec.Struct, frozen=True, array_like=True):
    """The certificates in use. `refused` is the error text of newer files that cannot be used, otherwise empty."""

    material: Material
    refused: str = ""


def gather(options: Options) -> dict[str, bytes]:
    """Reads the certificates of all rules with upstreams over TLS, and returns them as data for the workers.

    Raises CorefileError if certificates cannot be used.
    """
    out: dict[str, bytes] = {}
    for rule in options.rules:
        if rule.tls_key:
            try:
                out[rule.tls_key] = msgspec.msgpack.encode(FileState(_read(rule)))
            except TlsError as error:
                raise CorefileError(rule.position, f"plugin/forward: {error}") from error
    return out


def refresh(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Reads the certificate files again, and returns the data that have changed."""
    out: dict[str, bytes] = {}
    for rule in options.rules:
        payload = known.get(rule.tls_key) if any(rule.tls) else None
        if payload is None:
            continue
        before = _decode(payload)
        try:
            now = FileState(_read(rule))
        except TlsError as error:
            now = msgspec.structs.replace(before, refused=str(error))
            if now != before:
                plugin_logger("forward").error(LogLine("tls: the previous certificates stay in use", error=error))
        if now != before:
            out[rule.tls_key] = msgspec.msgpack.encode(now)
    return out


def decode(payload: bytes) -> Material:
    """Returns the certificates and keys that `gather` encoded."""
    return _decode(payload).material


def _decode(payload: bytes) -> FileState:
    return msgspec.msgpack.decode(payload, type=FileState)


def _read(rule: Rule) -> Material:
    material = read(*rule.tls)
    if not material.authorities:
        material = msgspec.structs.replace(material, authorities=system_authorities())
    return material
