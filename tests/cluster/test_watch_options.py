"""Encoding of watch options, which control and workers of different versions exchange."""

from __future__ import annotations

import msgspec

from svcdns.cluster.watch_options import WatchOptions, encode_watch


def test_defaults_of_newer_fields_are_not_encoded() -> None:
    """Older programs can decode the options during an upgrade in place."""
    before = b"\x9c\xa0\xc0\xa0\xa0\xa0\xa0\xc3\xc2\xc2\xc2\xc2\x91\xa1m"
    assert encode_watch(WatchOptions(manifests=("m",))) == before
    assert msgspec.msgpack.decode(before, type=WatchOptions) == WatchOptions(manifests=("m",))


def test_each_older_program_gets_the_fields_that_it_knows() -> None:
    """The first programs that had `exclude` knew 14 fields. They cannot decode a fifteenth.

    Those that had `clients` knew 15 fields.
    """
    before = b"\x9e\xa0\xc0\xa0\xa0\xa0\xa0\xc3\xc2\xc2\xc2\xc2\x91\xa1m\x91\xa1x\xa7default"
    assert encode_watch(WatchOptions(manifests=("m",), exclude=("x",))) == before
    with_clients = WatchOptions(pods=True, clients=True)
    assert encode_watch(with_clients)[:1] == b"\x9f"
    assert msgspec.msgpack.decode(encode_watch(with_clients), type=WatchOptions) == with_clients
    with_labels = WatchOptions(pods=True, clients=True, pod_labels=("app",))
    assert msgspec.msgpack.decode(encode_watch(with_labels), type=WatchOptions) == with_labels


def test_newer_fields_change_the_encoding() -> None:
    options = WatchOptions(manifests=("m",), exclude=("*.tmp",), default_namespace="shop")
    assert encode_watch(options) != encode_watch(WatchOptions(manifests=("m",)))
    assert msgspec.msgpack.decode(encode_watch(options), type=WatchOptions) == options
