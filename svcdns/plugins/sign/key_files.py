"""The key files of a zone: finds them and checks that they can be used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from svcdns.corefile.errors import CorefileError
from svcdns.dnssec.errors import KeyFileError
from svcdns.dnssec.keys import SigningKey, load_key
from svcdns.plugins.sign.options import SLASH, KeyPath, ZoneToSign
from svcdns.wire import names


def found(zone: ZoneToSign) -> tuple[str, ...]:
    """Returns the path of each key without its suffix. Reads the key files, to check them. Raises CorefileError."""
    return tuple(path for one in zone.keys for path in _of_line(one, zone.zone))


def load(path: str, zone: bytes) -> SigningKey:
    """Reads the key at a path, for a zone (wire name in lower case). Raises KeyFileError.

    As in CoreDNS, the name in the key file may be another name.
    """
    key = load_key(path)
    if not key.is_ksk:
        raise KeyFileError(f"{path}.key: the DNSKEY is not a CSK or KSK: its flags are {key.flags}, 257 was expected")
    return replace(key, name=zone)


def _of_line(key: KeyPath, zone: str) -> Iterator[str]:
    origin = names.from_text(zone).lower()
    try:
        if not key.is_folder:
            load(key.path, origin)
            yield key.path
            return
        paths = [path for path in _in_folder(key.path, zone) if load_key(path).is_ksk]
    except KeyFileError as error:
        raise CorefileError(key.position, f"plugin/sign: {error}") from error
    if not paths:
        pattern = f"K{zone}+ALGORITHM+TAG.key"
        raise CorefileError(key.position, f"plugin/sign: {key.path}: no CSK or KSK was found, {pattern} was expected")
    yield from paths


def _in_folder(folder: str, zone: str) -> list[str]:
    begin = f"K{zone.replace('/', SLASH)}+"
    try:
        files = sorted(path.name for path in Path(folder).iterdir())
    except (OSError, ValueError) as error:  # ValueError: a path with a zero octet
        raise KeyFileError(f"open {folder}: {(getattr(error, 'strerror', None) or str(error)).lower()}") from error
    found = [name for name in files if name.lower().startswith(begin.lower()) and name.endswith(".key")]
    return [str(Path(folder) / name.removesuffix(".key")) for name in found]
