"""Entries of etcd in the form in which the control process sends them to the workers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from svcdns.plugins.etcd import shards
from svcdns.plugins.etcd.options import Source
from svcdns.plugins.etcd.service import entry
from svcdns.plugins.etcd.shards import SHARDS, State


def value(content: Any) -> bytes:
    """Returns a value of etcd: a text as it is, anything else as JSON."""
    return content.encode() if isinstance(content, str) else json.dumps(content).encode()


def data(source: Source, keys: Mapping[str, Any], *, serial: int = 1, lease: int = 0) -> dict[str, bytes]:
    """Returns the plugin's data for these keys and values. All keys have the lease `lease`."""
    entries = [entry(key.encode(), value(content), lease) for key, content in sorted(keys.items())]
    found: dict[int, list[Any]] = {shard: [] for shard in range(SHARDS)}
    for one in entries:
        found[shards.shard_of(one.key.encode())].append(one)
    out = {shards.shard_key(source.key, shard): shards.encode_entries(some) for shard, some in found.items()}
    out[shards.state_key(source.key)] = shards.encode_state(State(serial, "", len(entries)))
    return out
