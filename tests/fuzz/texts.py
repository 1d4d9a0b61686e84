"""Fuzzing targets for configuration files: Corefiles, zone files and manifests."""

from __future__ import annotations

import functools
import logging
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import yaml

from svcdns.chain.build import build
from svcdns.chain.plan import plan
from svcdns.cluster.changes import Kind, Put
from svcdns.cluster.index import Index
from svcdns.cluster.objects import ClusterObject
from svcdns.cluster.watch_options import WatchOptions
from svcdns.corefile.blocks import Corefile
from svcdns.corefile.directives import check_directives
from svcdns.corefile.errors import CorefileError
from svcdns.corefile.parser import parse
from svcdns.errors import SvcdnsError
from svcdns.feed.frames import Changed, FrameReader, FromControl, frame
from svcdns.plugin_api.environment import Block, Environment
from svcdns.plugin_api.errors import ContractError, HookError
from svcdns.plugin_api.hooks import HookCaller
from svcdns.plugins import BUILT, ORDER, load
from svcdns.sources.manifests import ManifestError, ManifestsSource
from svcdns.telemetry.counters import Counters
from svcdns.wire import names
from svcdns.wire.codes import Type, type_text
from svcdns.wire.message import encode_query, parse_message
from svcdns.wire.record import Record
from svcdns.wire.zone_text import ZoneFileError, read
from tests.fuzz.mutation import of_lines, of_parts, of_trees
from tests.fuzz.names import check_name
from tests.fuzz.target import Target
from tests.support import world

ROOT: Final = Path(__file__).parents[2]
_ENVIRON: Final = {"ZONE": "example.org", "PORT": "1053", "EMPTY": "", "LOOP": "{$LOOP}"}
_MAX_KEYS: Final = 512
"""The most keys that one word of a Corefile may stand for: the reverse zones of a CIDR."""
_LARGE_RANGE: Final = re.compile(rb"\$generate\s+\S*[0-9]{4}", re.IGNORECASE)
_IMPORTED_FILE: Final = re.compile(r"import\b")


def run_corefile(data: bytes) -> None:
    """Reads a Corefile, checks the options of all plugins, and builds the plugin chains, without any
    input or output.
    """
    text = data.decode(errors="replace")
    if _IMPORTED_FILE.search(text) and ("/" in text or "*" in text or "." in text):  # it could name any file
        return
    try:
        corefile = parse(text, "Corefile", environ=_ENVIRON)
    except CorefileError as error:
        _check_position(error, text)
        return
    assert parse(text, "Corefile", environ=_ENVIRON) == corefile
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(corefile), type=Corefile) == corefile
    assert all(len(block.keys) <= _MAX_KEYS * (1 + len(text)) for block in corefile.blocks)
    try:
        check_directives(corefile, (*ORDER, "import"), BUILT)
        plans = plan(corefile, ORDER, load)
        build(plans, [("",)] * len(plans), load, _environment, HookCaller(_counters()))
    except (ContractError, HookError):
        raise  # a plugin raised an exception that it does not document
    except SvcdnsError as error:
        assert str(error)


def _check_position(error: CorefileError, text: str) -> None:
    position = error.position
    assert 1 <= position.line <= text.count("\n") + 1
    assert 1 <= position.column <= len(text) + 1
    assert error.message


@functools.cache
def _counters() -> Counters:
    return Counters()


@functools.cache
def _index() -> Index:
    return Index(frozenset(Kind))


def _environment(
    block: Block, server: str, listen: tuple[tuple[str, int], ...], _name: str, _peers: object
) -> Environment:
    return world.environment(_index(), block=block, server=server, listen_addresses=listen, counters=_counters())


def run_zone(data: bytes) -> None:
    """Reads a zone file. A record that causes no warning must be the same after encoding and parsing."""
    if _LARGE_RANGE.search(data):  # 65,536 records take their time
        return
    warnings: list[str] = []
    try:
        records = read(data, names.from_text("example.org."), "zone", warnings.append, _no_file)
    except ZoneFileError as error:
        assert str(error)
        return
    assert len(records) <= 1000 * (1 + len(data) // 5)
    for record in records:
        check_name(record.owner)
        assert 0 <= record.ttl < 1 << 32
    if not warnings:  # some data are loaded with a warning although they lack a part
        _check_sent(records[:50])


def _check_sent(records: list[Record]) -> None:
    query = encode_query(1, 0, names.ROOT, 1, 1, None)
    packet = query[:2] + b"\x80\0\0\1" + len(records).to_bytes(2, "big") + bytes(4) + query[12:]
    for record in records:
        fixed = record.rtype.to_bytes(2, "big") + record.rclass.to_bytes(2, "big") + record.ttl.to_bytes(4, "big")
        packet += record.owner + fixed + len(record.rdata).to_bytes(2, "big") + record.rdata
    received = parse_message(packet).answer
    assert [(one.owner, one.rtype, one.rdata) for one in received] == [
        (one.owner, one.rtype, one.rdata) for one in records
    ]


def _no_file(_path: Path) -> bytes:
    raise FileNotFoundError(2, "No such file or directory")


def run_manifests(data: bytes) -> None:
    """Reads a manifest, builds the cluster from it, and applies the objects to a worker's index."""
    path = _folder() / "cluster.yaml"
    path.write_bytes(data)
    options = WatchOptions(manifests=(str(path),), pods=True, zones=True, multicluster=True)
    try:
        cluster = ManifestsSource(options, log=_log).load()
    except ManifestError as error:
        assert all(line.startswith(str(path)) for line in str(error).split("\n"))
        return
    index = Index(frozenset(Kind))
    for item in cluster.objects.values():
        _check_object(index, item)


def _check_object(index: Index, item: ClusterObject) -> None:
    reader = FrameReader[FromControl](FromControl)
    reader.feed(frame(Changed(1, Put(item))))
    (received,) = reader.frames()
    index.apply(received.change)  # type: ignore[union-attr]
    assert index.apply(Put(item)) == set()


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


def _folder() -> Path:
    return Path(_temporary().name)


_log: Final = logging.getLogger("svcdns.fuzz")
_log.disabled = True


def _corefiles() -> Iterator[bytes]:
    for page in sorted((ROOT / "docs" / "plugins").glob("*.md")):
        for text in re.findall(r"^```corefile\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            yield text.encode()
    yield b"(s) {\n log\n}\n{$ZONE}:{$PORT} 10.0.0.0/9 {\n import s\n errors {\n }\n}\n"
    yield b'. {\n hosts {\n  10.0.0.1 "a b" # c\n  fallthrough\n }\n}'


def _zones() -> Iterator[bytes]:
    yield b"$TTL 5m\n@ IN SOA ns hostmaster ( 1 2 3 4 5 )\n  NS ns\nns A 192.0.2.1\n AAAA 2001:db8::1\n"
    yield b'@ 5 TXT "a;b" c\\032d\nm MX 5 @\ns SRV 1 2 3 @\nc CNAME a.b.\n$ORIGIN sub\n* A 1.2.3.4\n'
    yield b"$GENERATE 1-3/2 h${0,3,d} A 10.0.0.$\n@ CAA 0 issue x\n@ TYPE999 \\# 3 0a0b0c\n@ HINFO a b\n"
    yield b"@ NAPTR 1 2 s a b .\n@ DS 1 8 2 aabb\n@ SVCB 1 . alpn=h2 port=53\n@ LOC 1 2 3 N 4 5 6 E 7m\n"
    yield b"@ TLSA 3 1 1 aa\n@ SSHFP 1 1 aa\n@ URI 1 2 x\n@ NSEC a A TXT\n@ RP a b\n@ APL 1:1.2.3.0/24\n"


def _manifests() -> Iterator[bytes]:
    yield (
        b"apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: a}\n"
        b"spec: {selector: {app: web}, clusterIP: None, ports: [{name: http, port: 80}]}\n---\n"
        b"apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: a, labels: {app: web}}\nstatus: {podIP: 10.0.0.1}\n"
    )
    yield (
        b"apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec: {replicas: 2, serviceName: db,\n"
        b" template: {metadata: {labels: {a: b}}}}\n"
    )
    yield (
        b"apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, labels:\n"
        b" {kubernetes.io/service-name: x}}\naddressType: IPv4\nendpoints: [{addresses: [10.0.0.1], hostname: h}]\n"
    )
    yield b"kind: List\napiVersion: v1\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n"
    yield b'{"apiVersion":"v1","kind":"Endpoints","metadata":{"name":"e"},"subsets":[{"addresses":[{"ip":"::1"}]}]}'
    yield b"a: &a [*a]\n"
    yield (
        b"apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {x: y}}\n---\n"
        b"apiVersion: v1\nkind: Service\nmetadata: {name: e, namespace: a}\n"
        b"spec: {type: ExternalName, externalName: x.example.org}\n---\n"
        b"apiVersion: v1\nkind: Service\nmetadata: {name: l, namespace: a, annotations: {a: b}}\n"
        b"spec: {type: LoadBalancer, clusterIP: 10.96.0.9, clusterIPs: [10.96.0.9, 'fd00::9'], externalIPs: [192.0.2.9],\n"
        b" publishNotReadyAddresses: true, ports: [{name: dns, port: 53, protocol: UDP, targetPort: dns}]}\n"
        b"status: {loadBalancer: {ingress: [{ip: 192.0.2.3}, {hostname: lb.example.org}]}}\n---\n"
        b"apiVersion: multicluster.x-k8s.io/v1alpha1\nkind: ServiceImport\nmetadata: {name: i, namespace: a}\n"
        b"spec: {type: ClusterSetIP, ips: [10.9.0.1], ports: [{port: 80}]}\n"
    )
    for kind in ("Deployment", "ReplicaSet", "DaemonSet", "StatefulSet", "Job", "CronJob"):
        template = (
            "{metadata: {labels: {app: web}}, spec: {hostname: h, subdomain: web, containers: [{name: c, image: i,"
        )
        template += " ports: [{name: http, containerPort: 80}]}]}}"
        spec = f"{{replicas: 2, completions: 2, serviceName: web, template: {template}}}"
        spec = f"{{jobTemplate: {{spec: {spec}}}}}" if kind == "CronJob" else spec
        group = "batch/v1" if kind.endswith("ob") else "apps/v1"
        yield (
            f"apiVersion: {group}\nkind: {kind}\nmetadata: {{name: web, namespace: a}}\nspec: {spec}\n---\n"
            "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: a}\n"
            "spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}\n"
        ).encode()


_COREFILE_WORDS: Final = (
    *BUILT, "{", "}", '"', "#", "{$ZONE}", "{args[0]}", "fallthrough", "ttl", "success", "denial", "prefetch", "serve_stale", "except",
    "policy", "tls_servername", "endpoint_pod_names", "pods", "labels", "name", "exact", "regex", "answer", "stop", "allow", "net", "type",
    "block", "{{ .Name }}", "{{if", "tls://", "10.0.0.0/9", "::/0", "1h", "max_concurrent", "upstream", "to", "response",
)  # fmt: skip
_ZONE_WORDS: Final = (
    *map(type_text, Type),
    "$TTL",
    "$ORIGIN",
    "$GENERATE",
    "$INCLUDE",
    "IN",
    "@",
    "(",
    ")",
    ";",
    '"',
    "\\#",
)
_MANIFEST_WORDS: Final = (
    "apiVersion: ", "kind: ", "metadata: ", "name: ", "namespace: ", "labels: ", "spec: ", "selector: ", "ports: ",
    "clusterIP: ", "---\n", "Service", "Pod", "Deployment", "StatefulSet", "EndpointSlice", "Endpoints", "Namespace",
    "ServiceImport", "List", "items:", "replicas: ", "externalName: ", "loadBalancerIP: ", "status: ", "podIP: ", "&a ",
    "*a", "!!str ", "<<: ", "v1", "apps/v1", "discovery.k8s.io/v1",
)  # fmt: skip


def _lines(seeds: Callable[[], Iterable[bytes]]) -> list[str]:
    return sorted({line for text in seeds() for line in text.decode().split("\n")})


_DOCUMENTS: Final = of_trees(
    functools.partial(yaml.load, Loader=yaml.CSafeLoader),
    lambda tree: yaml.dump(tree, Dumper=yaml.CSafeDumper).encode(),
    [word.strip(": ") for word in _MANIFEST_WORDS if word.strip(": -&*!\n").isalnum()],
)

TARGETS: Final = (
    Target("corefile", run_corefile, _corefiles, 600, _COREFILE_WORDS, of_lines(_lines(_corefiles), _COREFILE_WORDS)),
    Target("zone", run_zone, _zones, 300, _ZONE_WORDS, of_lines(_lines(_zones), _ZONE_WORDS)),
    Target("manifests", run_manifests, _manifests, 1200, _MANIFEST_WORDS, of_parts(_DOCUMENTS, b"---\n")),
)
