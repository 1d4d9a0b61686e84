"""The fuzzing target for responses of an API server: pages of a list, and events of a watch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

import msgspec

from svcdns.cluster.changes import Kind, Put
from svcdns.cluster.index import Index
from svcdns.cluster.watch_options import WatchOptions
from svcdns.errors import UNDECODABLE
from svcdns.sources.api import decoding
from svcdns.sources.api.paging import LineSplitter
from svcdns.sources.api.resources import Resource, watched
from tests.fuzz.mutation import JSON, of_parts, of_trees
from tests.fuzz.streams import pieces
from tests.fuzz.target import Target

_RESOURCES: Final = watched(WatchOptions(pods=True, multicluster=True, zones=True))


def run_api(data: bytes) -> None:
    """Reads a page of a list or the events of a watch. The first octet chooses between them, the second octet the
    resource.
    """
    if len(data) < 3:
        return
    resource = _RESOURCES[data[1] % len(_RESOURCES)]
    index = Index(frozenset(Kind))
    try:
        if data[0] & 1:
            _read_page(index, resource, data[2:])
        else:
            _read_events(index, resource, data[2:])
    except UNDECODABLE:
        return


def _read_page(index: Index, resource: Resource, body: bytes) -> None:
    objects, metadata, left_out = resource.decoder.page(body)
    assert isinstance(metadata.resourceVersion, str)
    assert len(objects) + left_out <= len(body)
    for item in objects:
        index.apply(Put(item))
    assert index.count(resource.kind) <= len(objects)


def _read_events(index: Index, resource: Resource, data: bytes) -> None:
    parts, stream = pieces(data)
    splitter = LineSplitter()
    lines = [line for part in parts for line in splitter.feed(part)]
    assert lines == [line for line in stream.split(b"\n")[:-1] if line]
    for line in lines:
        event = decoding.decode_event(line)
        if event.type == "BOOKMARK":
            decoding.decode_bookmark(event.object)
        else:
            _read_object(index, resource, event.object)


def _read_object(index: Index, resource: Resource, encoded: msgspec.Raw) -> None:
    item = resource.decoder.object(encoded)
    if item.trimmed is not None:
        index.apply(Put(item.trimmed))
    try:
        assert isinstance(decoding.trigger_time(item.annotations), float)
    except ValueError as error:
        assert str(error)


_OBJECTS: Final = (
    b'{"metadata":{"name":"w","namespace":"d","resourceVersion":"1"},"spec":{"clusterIPs":["10.0.0.1"],'
    b'"ports":[{"name":"h","port":80}]},"status":{"loadBalancer":{"ingress":[{"ip":"::1"}]}}}',
    b'{"metadata":{"name":"d","resourceVersion":"1"}}',
    b'{"metadata":{"name":"s","namespace":"d","annotations":{"endpoints.kubernetes.io/last-change-trigger-time":'
    b'"2020-01-01T00:00:00Z"}},"endpoints":[{"addresses":["::1"],"hostname":"h","conditions":{"ready":true},'
    b'"targetRef":{"kind":"Pod","name":"p"}}],"ports":[{"port":1}]}',
    b'{"metadata":{"name":"p","namespace":"d"},"status":{"podIP":"10.0.0.1"}}',
    b'{"metadata":{"name":"i","namespace":"d"},"spec":{"type":"Headless","ips":["1.2.3.4"],"ports":[]}}',
)


def _seeds() -> Iterator[bytes]:
    for number, item in enumerate(_OBJECTS):
        yield b"\1" + bytes((number,)) + b'{"metadata":{"resourceVersion":"1"},"items":[' + item + b"]}"
        yield b"\0" + bytes((number,)) + b"\1\5" + b'{"type":"ADDED","object":' + item + b"}\n"
    yield b'\0\0\0{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"5"}}}\n'


_JSON: Final = of_trees(
    *JSON, ["10.0.0.1", "::1", "Headless", "ClusterSetIP", "ExternalName", "addresses", "ports", "a"]
)
_LINES: Final = of_parts(_JSON)


def _mutated(data: bytes, rng: random.Random) -> bytes:
    if data[:1] and data[0] & 1:
        return data[:2] + _JSON(data[2:], rng)
    head = 3 + data[2] % 8 if len(data) > 2 else 0
    return data[:head] + _LINES(data[head:], rng)


TARGETS: Final = (Target("api", run_api, _seeds, 600, mutate=_mutated),)
