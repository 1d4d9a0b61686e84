"""The keys of `dnssec`, which control reads at a start and at each reload, and sends to the workers."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from svcdns.corefile.errors import CorefileError
from svcdns.dnssec.errors import KeyFileError
from svcdns.dnssec.keys import SigningKey, key_paths, parse_key, read_file
from svcdns.plugins.dnssec.options import KeyPath, Options
from svcdns.wire import names


class KeyFiles(msgspec.Struct, frozen=True, array_like=True):
    """The contents of the two files of a key."""

    base: str
    public: bytes
    private: bytes


def gather(options: Options, known: Mapping[str, bytes]) -> dict[str, bytes]:  # noqa: ARG001 - files are read anew
    """Reads and checks all keys, and returns the contents of their files for the workers.

    Raises CorefileError for a key that cannot be used, or that can sign none of the zones.
    """
    out = {}
    for path in options.keys:
        try:
            payload = msgspec.msgpack.encode(KeyFiles(path.base, *_contents(path)))
            key = decode(payload)
        except KeyFileError as error:
            raise CorefileError(path.position, f"plugin/dnssec: {error}") from error
        if not any(names.is_within(zone, key.name) for zone in options.zones):
            shown = f"key {names.to_text(key.name)} (keyid: {key.tag}) can not sign any of the zones"
            raise CorefileError(path.position, f"plugin/dnssec: {shown}")
        out[path.base] = payload
    return out


def _contents(path: KeyPath) -> tuple[bytes, bytes]:
    if path.is_secret:
        from svcdns.plugins.dnssec.secrets_manager import read_secret

        return read_secret(path.base)
    public, private = key_paths(path.base)
    return read_file(public), read_file(private)


def decode(payload: bytes) -> SigningKey:
    """Returns the key in the contents of its files. Raises KeyFileError."""
    files = msgspec.msgpack.decode(payload, type=KeyFiles)
    return parse_key(files.public, files.private, files.base)
