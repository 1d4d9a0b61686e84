"""From a Corefile to a setup: addresses, zones, clusters, and errors that prevent a start."""

from __future__ import annotations

from pathlib import Path

import pytest

from svcdns.cluster.watch_options import SnapshotOptions
from svcdns.control.configuration import Setup, prepare
from svcdns.control.info_metrics import note_plugins
from svcdns.corefile.errors import CorefileError
from svcdns.plugins import BUILT
from svcdns.process.shared_memory import REGION_SIZE
from svcdns.telemetry.counters import Counters
from tests.support.certificates import pair
from tests.support.world import counted

ZONE = "@ 60 IN SOA ns root {} 2 3 4 5\nwww 60 IN A 10.0.0.1\n"


def setup(folder: Path, text: str) -> Setup:
    """Returns the setup of a Corefile."""
    path = folder / "Corefile"
    path.write_text(text)
    return prepare(str(path), 53)


def test_addresses(tmp_path: Path) -> None:
    """The addresses are in the order of the file, without duplicates. A block with *bind* has its own addresses."""
    made = setup(tmp_path, "a.b c.d:54 {\n whoami\n}\ne.f {\n bind 127.0.0.1 ::1\n whoami\n}\n")
    assert made.listen == [
        (*place, proto) for place in (("", 53), ("", 54), ("127.0.0.1", 53), ("::1", 53)) for proto in ("udp", "tcp")
    ]
    assert made.zones == ["a.b.:53", "c.d.:54", "e.f.:53 on 127.0.0.1", "e.f.:53 on ::1"]


def test_an_interface_stands_for_its_addresses(tmp_path: Path) -> None:
    """The addresses in `except` are left out."""
    made = setup(tmp_path, ". {\n bind lo {\n  except ::1\n }\n whoami\n}\n")
    assert ("127.0.0.1", 53, "udp") in made.listen
    assert ("::1", 53, "udp") not in made.listen


def test_blocks_with_the_same_watch_share_a_view(tmp_path: Path) -> None:
    """The blocks differ only in options such as `ttl`, which do not concern the watch."""
    block = "kubernetes cluster.local {{\n  endpoint {}\n  ttl {}\n }}\n"
    text = f"a {{\n {block.format('http://x', 5)}}}\nb {{\n {block.format('http://x', 30)}}}\nc {{\n {block.format('http://y', 5)}}}\n"
    views = list(setup(tmp_path, text).views.values())
    assert [(view.options.endpoint, view.position.line) for view in views] == [("http://x", 2), ("http://y", 14)]


def test_numbers_of_the_whole_server(tmp_path: Path) -> None:
    """If several blocks set an option of the whole server, the largest value is used."""
    made = setup(
        tmp_path,
        "a {\n multisocket 2\n health :1 {\n  lameduck 1s\n }\n whoami\n}\n"
        "b {\n multisocket 3\n health :2 {\n  lameduck 3s\n }\n kubernetes c.l {\n  endpoint http://x\n  startup_timeout 9s\n }\n}\n",
    )
    assert (made.workers, made.lameduck, made.startup_timeout) == (3, 3.0, 9.0)
    plain = setup(tmp_path, ". {\n whoami\n}\n")
    assert (plain.workers, plain.lameduck, plain.startup_timeout) == (1, 0.0, 0.0)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("quic://. {\n whoami\n}", r"Corefile:1:1 .*quic://", id="transport"),
        pytest.param("tls://a {\n whoami\n}", r"Corefile:1:1 .*tls://a\.:853 has no certificate", id="clear text"),
        pytest.param("tls://a {\n tls a b\n}", r"Corefile:2:2 .*plugin/tls: open a: no such file", id="no file"),
        pytest.param(
            ". {\n bind nowhere0\n}", r"Corefile:2:2 .*not a valid IP address or interface name: 'nowhere0'", id="bind"
        ),
        pytest.param("a {\n whoami\n}\na {\n whoami\n}", r"Corefile:4:1 .*cannot serve dns://a\.:53", id="overlap"),
    ],
)
def test_a_corefile_that_cannot_be_served(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(CorefileError, match=error):
        setup(tmp_path, text)


def test_a_directive_without_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(BUILT, "erratic")
    with pytest.raises(CorefileError, match=r"Corefile:2:2 .*'erratic' is one of CoreDNS's"):
        setup(tmp_path, ". {\n erratic\n}")


def test_the_same_zone_on_different_addresses_is_no_overlap(tmp_path: Path) -> None:
    """CoreDNS accepts such a Corefile."""
    text = "a {\n bind 127.0.0.1\n whoami\n}\na {\n bind 127.0.0.2\n whoami\n}\n"
    assert {host for host, _, _ in setup(tmp_path, text).listen} == {"127.0.0.1", "127.0.0.2"}


def test_tls_listens_only_on_tcp(tmp_path: Path) -> None:
    """The port is 853. One certificate serves all blocks of an address."""
    pair().write(tmp_path)
    text = "tls://a b {{\n root {0}\n tls server.crt server.key\n}}\ntls://c {{\n whoami\n}}\n"
    made = setup(tmp_path, text.format(tmp_path))
    assert made.listen == [("", 853, "tcp"), ("", 53, "udp"), ("", 53, "tcp")]
    assert made.zones == ["tls://a.:853", "b.:53", "tls://c.:853"]


def test_a_certificate_without_a_tls_key_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pair().write(tmp_path)
    assert setup(tmp_path, f". {{\n root {tmp_path}\n tls server.crt server.key\n}}\n").listen
    assert "the block has no key of a transport with TLS" in caplog.text
    assert "/Corefile:3\n" in caplog.text


@pytest.mark.parametrize(("scheme", "accepted"), [("tls", True), ("quic", False), ("https3", False)])
def test_client_certificates_over_quic(tmp_path: Path, scheme: str, accepted: bool) -> None:
    """The library for QUIC cannot verify certificates of clients, so they must not seem to be verified."""
    pair().write(tmp_path)
    text = (
        f"{scheme}://. {{\n root {tmp_path}\n tls server.crt server.key {{\n  client_auth require_and_verify\n }}\n}}\n"
    )
    if accepted:
        assert setup(tmp_path, text).listen
    else:
        with pytest.raises(CorefileError, match=f"client_auth is not supported by {scheme}://"):
            setup(tmp_path, text)


KUBERNETES = "{zone} {{\n kubernetes cluster.local {{\n  endpoint http://a\n  {more}\n }}\n}}\n"


def test_options_from_environment_variables_are_for_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVCDNS_SNAPSHOT", "/var/lib/svcdns 1h not_ready")
    monkeypatch.setenv("SVCDNS_STALE_AFTER", "10m")
    made = setup(tmp_path, KUBERNETES.format(zone=".", more="ttl 5"))
    (watched,) = made.views.values()
    assert watched.snapshot == SnapshotOptions("/var/lib/svcdns", 3600.0, ready=False)
    assert [block.options["kubernetes"].stale_after for block in made.plans] == [600.0]
    monkeypatch.undo()
    assert setup(tmp_path, KUBERNETES.format(zone=".", more="ttl 5")).written == made.written
    assert made.corefile != made.written


def test_manifests_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SVCDNS_MANIFESTS replaces the API server as the source. Then there is no snapshot."""
    monkeypatch.setenv("SVCDNS_MANIFESTS", "a.yaml b")
    monkeypatch.setenv("SVCDNS_SNAPSHOT", "/var/lib/svcdns")
    (watched,) = setup(tmp_path, KUBERNETES.format(zone=".", more="ttl 5")).views.values()
    assert (watched.options.manifests, watched.snapshot) == (("a.yaml", "b"), None)


def test_a_wrong_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVCDNS_SNAPSHOT", "/var/lib/svcdns soon")
    with pytest.raises(CorefileError, match=r"^SVCDNS_SNAPSHOT:1:17 - Error during parsing: 'soon' is not a duration"):
        setup(tmp_path, KUBERNETES.format(zone=".", more="ttl 5"))


@pytest.mark.parametrize(
    ("first", "other", "expected"),
    [
        pytest.param("snapshot /a", "snapshot /a", SnapshotOptions("/a"), id="alike"),
        pytest.param("snapshot /a", "ttl 5", SnapshotOptions("/a"), id="the first one's"),
        pytest.param("ttl 5", "snapshot /a", SnapshotOptions("/a"), id="the other one's"),
        pytest.param("ttl 5", "ttl 5", None, id="none"),
    ],
)
def test_two_blocks_with_one_watch_have_one_snapshot(
    tmp_path: Path, first: str, other: str, expected: SnapshotOptions | None
) -> None:
    """Only one of the blocks has the option, and the snapshot is for both."""
    made = setup(tmp_path, KUBERNETES.format(zone="a", more=first) + KUBERNETES.format(zone="b", more=other))
    assert [watched.snapshot for watched in made.views.values()] == [expected]


def test_two_blocks_with_one_watch_and_two_snapshots(tmp_path: Path) -> None:
    """Two snapshots for one view are an error, because only one would be used."""
    text = KUBERNETES.format(zone="a", more="snapshot /a") + KUBERNETES.format(zone="b", more="snapshot /b")
    with pytest.raises(
        CorefileError, match=r"Corefile:8:2 .*watches the same as the block at .*Corefile:2, but with another snapshot"
    ):
        setup(tmp_path, text)


def test_what_is_ignored_is_a_warning(tmp_path: Path) -> None:
    """The warning has the position. The rest of the Corefile is read."""
    (tmp_path / "db").write_text(ZONE.format(1))
    made = setup(
        tmp_path,
        f"a. {{\n file {tmp_path}/db {{$UNSET}}\n}}\n"
        f"b. {{\n file {tmp_path}/db {{\n  upstream 192.0.2.1\n }}\n}}\n"
        "c. {\n template IN A {$UNSET} {\n  rcode NXDOMAIN\n  upstream\n }\n}\n}\n",
    )
    assert [line.removeprefix(f"{tmp_path}/Corefile:") for line in made.warnings] == [
        "15:1 - '}' without a '{' before it is ignored",
        f"2:{len(str(tmp_path)) + 11} - '' is not a zone and is ignored; no zone is left",
        "6:3 - 'upstream' is ignored, it has no effect any more",
        "10:16 - '' is not a zone and is ignored; no zone is left",
        "12:3 - 'upstream' is ignored, it has no effect any more",
    ]


def test_link_local_and_loopback_addresses_are_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other hosts cannot use them (RFC 4291 §2.5.6)."""
    found = {"eth0": ["192.0.2.1", "169.254.20.10", "2001:db8::1", "fe80::1%eth0"], "lo": ["127.0.0.1", "::1"]}
    monkeypatch.setattr("svcdns.control.configuration.interfaces", lambda: found)
    assert setup(tmp_path, ". {\n whoami\n}\n").local_addresses == ("192.0.2.1", "169.254.20.10", "2001:db8::1")


def test_enabled_plugins_are_those_that_coredns_names(tmp_path: Path) -> None:
    """As in CoreDNS, the metric has the plugins of each block with *prometheus*."""
    counters = Counters(memoryview(bytearray(REGION_SIZE)))
    text = "a. {\n bind 127.0.0.1\n errors\n prometheus\n reload\n whoami\n}\nb. {\n whoami\n}\n"
    note_plugins(counters, setup(tmp_path, text))
    assert set(counted(counters)) == {
        ("coredns_plugin_enabled", "dns://127.0.0.1:53", "a.", "", name) for name in ("errors", "prometheus", "whoami")
    }
