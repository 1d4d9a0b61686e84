"""The options of `etcd` (docs/plugins/etcd.md)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from svcdns.corefile.blocks import Position
from svcdns.corefile.errors import CorefileError
from svcdns.plugins import etcd
from svcdns.plugins.etcd.options import Endpoint, Options, Source
from tests.support import world

WHERE = Position("Corefile", 2, 1)
LOCAL = Endpoint("http://localhost:2379", "localhost", 2379)
DEFAULT = Options(WHERE, ("example.org.",), Source((LOCAL,), "skydns"))


def options(text: str) -> Options:
    found: Options = world.options("etcd", text, zones="example.org")
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("etcd", DEFAULT, id="defaults"),
        pytest.param(
            "etcd skydns.local 10.0.0.0/24",
            replace(DEFAULT, zones=("skydns.local.", "0.0.10.in-addr.arpa.")),
            id="zones",
        ),
        pytest.param("etcd {\n fallthrough a.\n}", replace(DEFAULT, fallthrough=("a.",)), id="fallthrough zones"),
        pytest.param("etcd {\n fallthrough\n}", replace(DEFAULT, fallthrough=(".",)), id="fallthrough"),
        pytest.param(
            "etcd {\n min-lease-ttl 60\n max-lease-ttl 1h30m\n}",
            replace(DEFAULT, min_lease_ttl=60, max_lease_ttl=5400),
            id="lease TTLs",
        ),
        pytest.param("etcd {\n min-lease-ttl 0\n max-lease-ttl 0s\n}", DEFAULT, id="0 stands for the default"),
    ],
)
def test_reads_options(text: str, expected: Options) -> None:
    assert options(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("path /my/path/", Source((LOCAL,), "/my/path/"), id="path"),
        pytest.param("credentials u p", Source((LOCAL,), "skydns", "u", "p"), id="credentials"),
        pytest.param('credentials u ""', Source((LOCAL,), "skydns"), id="an empty password is none"),
        pytest.param(
            "endpoint http://[::1]:1 10.0.0.1 etcd:99 unix:///s",
            Source(
                (
                    Endpoint("http://[::1]:1", "::1", 1),
                    Endpoint("10.0.0.1", "10.0.0.1", 2379),
                    Endpoint("etcd:99", "etcd", 99),
                    Endpoint("unix:///s", "localhost", 0, socket="/s"),
                ),
                "skydns",
            ),
            id="endpoints",
        ),
        pytest.param(
            "endpoint https://a:1 b:2 http://c:3\n tls /c /k /a",
            Source(
                (
                    Endpoint("https://a:1", "a", 1, is_secure=True),
                    Endpoint("b:2", "b", 2, is_secure=True),
                    Endpoint("http://c:3", "c", 3),
                ),
                "skydns",
                tls=("/c", "/k", "/a"),
            ),
            id="tls",
        ),
        pytest.param("tls /a", Source((LOCAL,), "skydns", tls=("", "", "/a")), id="authorities"),
        pytest.param("tls c k", Source((LOCAL,), "skydns", tls=("c", "k", "")), id="a certificate"),
    ],
)
def test_reads_the_source(text: str, expected: Source) -> None:
    assert options(f"etcd {{\n {text}\n}}").source == expected


def test_prefix_and_key() -> None:
    """The password is in no text of a source. Sources with different passwords have different keys."""
    source = Source((LOCAL,), "//my/./path/", "user", "hunter2")
    assert source.prefix == "/my/path"
    assert "hunter2" not in source.key + repr(source)
    assert source.key != replace(source, password="other").key


def test_words_without_effect() -> None:
    """They cause warnings, as does a second directive."""
    found = options("etcd {\n stubzones\n debug\n upstream a b\n}\netcd x.org")
    assert [line.split(" - ")[1].split(" is ignored")[0] for line in found.warnings] == [
        "'stubzones'", "'debug'", "'upstream'", "'etcd'",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("path", "3:2 Wrong argument count", id="no path"),
        pytest.param("endpoint", "3:2 Wrong argument count", id="no endpoint"),
        pytest.param(
            "endpoint ftp://a:1", "3:11 'ftp://a:1' is not an endpoint; http://HOST:PORT was expected", id="scheme"
        ),
        pytest.param("endpoint a:b", "3:11 'a:b' is not an endpoint", id="port"),
        pytest.param("endpoint http://:1", "3:11 'http://:1' is not an endpoint", id="host"),
        pytest.param("endpoint ::1:2", "3:11 '::1:2' is not an endpoint", id="brackets"),
        pytest.param("credentials", "3:2 Wrong argument count", id="no credentials"),
        pytest.param("credentials u", "3:2 credentials requires 2 arguments, username and password", id="one word"),
        pytest.param("credentials u p x", "3:2 credentials requires 2 arguments", id="three words"),
        pytest.param("tls a b c d", "3:12 Wrong argument count", id="tls"),
        pytest.param("min-lease-ttl", "3:2 Wrong argument count", id="no TTL"),
        pytest.param(
            "min-lease-ttl x", "3:16 invalid min-lease-ttl value: invalid TTL format, use format like", id="TTL"
        ),
        pytest.param("max-lease-ttl -1s", "3:16 invalid max-lease-ttl value: TTL must be non-negative", id="negative"),
        pytest.param("max-lease-ttl 4294967296", "3:16 invalid max-lease-ttl value: TTL too large", id="large"),
        pytest.param("paths /a", "3:2 unknown property 'paths' (did you mean 'path'?)", id="unknown"),
    ],
)
def test_rejected_options(text: str, error: str) -> None:
    assert world.rejection("etcd", f"etcd {{\n {text}\n}}").startswith(error)


def test_files_of_tls_are_checked() -> None:
    with pytest.raises(CorefileError, match="plugin/etcd: open /no/such: no such file or directory"):
        etcd.gather(options("etcd {\n tls /no/such\n}"), {})


def test_data_are_kept_at_a_reload() -> None:
    found = options("etcd")
    key = found.source.key
    assert etcd.gather(found, {f"{key} state": b"1", "other state": b"2"}) == {f"{key} state": b"1"}
    assert etcd.sources(found) == (found.source,)
