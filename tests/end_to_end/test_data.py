"""Files that plugins read, and policies, in a running server. Every worker uses the current content."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.server import Server, http, until


def test_an_edited_hosts_file_is_read_again(tmp_path: Path) -> None:
    """The answer table must not have replies from the old content."""
    hosts = tmp_path / "names"
    hosts.write_text("10.0.0.1 a.example.org\n")
    with Server(
        tmp_path, ".:{port} {\n bind 127.0.0.1\n multisocket 2\n hosts {dir}/names {\n  reload 50ms\n }\n}\n"
    ) as server:
        server.until_serving()
        for _ in range(6):
            assert server.records("a.example.org.") == ["10.0.0.1"]
            assert server.records("b.example.org.") == ["SERVFAIL"]
        hosts.write_text("10.0.0.2 a.example.org b.example.org # edited\n")
        for name in ("a.example.org.", "b.example.org."):
            until("the edit", lambda: all(server.records(name) == ["10.0.0.2"] for _ in range(8)))  # noqa: B023


def test_policies_apply_to_the_answer_table(tmp_path: Path) -> None:
    """Each client gets its own answer, however many queries another client has sent."""
    (tmp_path / "names").write_text("10.0.0.1 a.example.org\n")
    corefile = ".:{port} {\n bind 127.0.0.1\n acl {\n  block net 127.0.0.2\n }\n hosts {dir}/names\n}\n"
    with Server(tmp_path, corefile) as server:
        server.until_serving()
        for tcp in (False, True):
            for _ in range(4):
                assert server.ask("a.example.org.", tcp=tcp).rcode() == 0
                assert server.ask("a.example.org.", tcp=tcp, source="127.0.0.2").rcode() == 5


def test_an_upstream_by_its_host_name(tmp_path: Path) -> None:
    """The host name is resolved before the server answers. If this fails, the start fails."""
    corefile = ".:{port} {\n bind 127.0.0.1\n forward . localhost:1 {\n  max_fails 0\n  read_timeout 50ms\n }\n}\n"
    with Server(tmp_path, corefile) as server:
        server.until_serving()
        assert server.ask("a.example.org.").rcode() == 2
    with Server(tmp_path, corefile.replace("localhost:1", "nowhere.invalid.")) as server:
        assert server.process.wait(30) == 1
        assert "failed to resolve 'nowhere.invalid.'" in server.log


def test_a_zone_file_that_cannot_be_used(tmp_path: Path) -> None:
    """The zone gets SERVFAIL until the file is valid. After a later error, the previous content stays."""
    good = "@ 60 IN SOA ns root {} 2 3 4 5\nwww 60 IN A {}\n"
    (tmp_path / "one.zone").write_text(good.format(1, "10.0.0.1"))
    (tmp_path / "two.zone").write_text("nonsense\n")
    corefile = "one.test:{port} two.test:{port} {\n bind 127.0.0.1\n prometheus 127.0.0.1:{metrics}\n" + "".join(
        f" file {{dir}}/{name}.zone {name}.test {{\n  reload 50ms\n }}\n" for name in ("one", "two", "none")
    )

    def refused(value: float) -> str:
        return f'svcdns_file_zone_refused{{file="{tmp_path}/two.zone",zone="two.test."}} {value}'

    with Server(tmp_path, corefile + "}\n") as server:
        server.until_serving()
        assert server.records("www.one.test.") == ["10.0.0.1"]
        assert server.records("www.two.test.") == ["SERVFAIL"]
        line = (
            rf"\[ERROR\] plugin/file: the zone is SERVFAIL position=.*Corefile:\d+ .* error=\"{tmp_path}/two.zone:1:1: "
        )
        assert re.search(line, server.log)
        until("the metric", lambda: refused(1.0) in http(server.ports["metrics"], "/metrics")[1])
        (tmp_path / "two.zone").write_text(good.format(1, "10.0.0.2"))
        until("the zone", lambda: server.records("www.two.test.") == ["10.0.0.2"])
        until("the metric", lambda: refused(0.0) in http(server.ports["metrics"], "/metrics")[1])
        (tmp_path / "one.zone").write_text("@ 60 IN SOA ns root 2 2 3 4 5\nwww 60 IN A 10.0.0\n")
        server.until_logged("the zone is served as it was read before zone=one.test.")
        assert server.records("www.one.test.") == ["10.0.0.1"]
        (tmp_path / "one.zone").write_text(good.format(2, "10.0.0.3"))
        until("the new zone", lambda: server.records("www.one.test.") == ["10.0.0.3"])


def test_zones_come_and_go_with_their_files(tmp_path: Path) -> None:
    text = "@ 60 IN SOA ns root {} 2 3 4 5\nwww 60 IN A {}\n"
    zones = tmp_path / "zones"
    zones.mkdir()
    (zones / "db.one.test").write_text(text.format(1, "10.0.0.1"))
    corefile = (
        "test:{port} {\n bind 127.0.0.1\n multisocket 2\n prometheus 127.0.0.1:{metrics}\n"
        " auto {\n  directory {dir}/zones\n  reload 50ms\n }\n}\n"
    )
    with Server(tmp_path, corefile) as server:
        server.until_serving()
        assert server.records("www.one.test.") == ["10.0.0.1"]
        assert server.records("www.two.test.") == ["REFUSED"]
        (zones / "db.two.test").write_text(text.format(1, "10.0.0.2"))
        until("the new zone", lambda: all(server.records("www.two.test.") == ["10.0.0.2"] for _ in range(8)))
        (zones / "db.one.test").unlink()
        until("the end of a zone", lambda: all(server.records("www.one.test.") == ["REFUSED"] for _ in range(8)))
        counted = r'coredns_dns_requests_total{[^}]*zone="two.test."}'
        until("the metric", lambda: re.search(counted, http(server.ports["metrics"], "/metrics")[1]) is not None)
