"""The part of the plugin `secondary` in the control process: reads the zones in the state folder at a start."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from svcdns.plugins.secondary.catalog import CatalogError, read_catalog
from svcdns.plugins.secondary.options import Options, Rule
from svcdns.plugins.secondary.state_file import path_of, usable
from svcdns.telemetry.logging import plugin_logger
from svcdns.wire import names
from svcdns.zones.content import decode, portions


def kept_key(zone: bytes) -> str:
    """Returns the key of the content of a zone that was read from the state folder."""
    return f"kept {names.to_text(zone)}"


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:
    """Returns the contents of the zones in the state folder, with those of the members of catalogs.

    Returns nothing at a reload, because the workers have newer contents than the state folder.
    """
    out: dict[str, bytes] = {}
    if not options.state or known:
        return out
    rules = {names.from_text(zone).lower(): rule for rule in options.rules for zone in rule.zones}
    for zone, rule in rules.items():
        _read(zone, rule, options.state, out)
    for zone, rule in rules.items():
        payload = out.get(kept_key(zone))
        if payload and rule.members is not None:
            for member in _members(zone, payload):
                if member not in rules:
                    _read(member, rule, options.state, out)
    return out


def _read(zone: bytes, rule: Rule, folder: str, out: dict[str, bytes]) -> None:
    payload = usable(path_of(folder, zone), zone, rule.primaries, plugin_logger("secondary"))
    if payload:
        out[kept_key(zone)] = payload


def _members(catalog: bytes, payload: bytes) -> list[bytes]:
    try:
        return list(read_catalog(catalog, chain.from_iterable(portions(decode(payload)))).members)
    except CatalogError:
        return []
