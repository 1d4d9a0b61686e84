"""Queries from logs, lists and captures."""

from __future__ import annotations

from pathlib import Path

import dns.message
import dns.rdatatype
import pytest

from svcdns.shadow.errors import ShadowError
from svcdns.shadow.queries import Queries, read

LOG = """\
[INFO] 10.244.0.7:36209 - 1 "AAAA IN Web.default.svc.cluster.local. udp 54 false 512" NXDOMAIN qr,aa,rd 147 0.0001s
2026-11-30T08:00:00Z [INFO] 10.244.0.7:1 - 2 "TYPE65 IN example.com. tcp 29 true 1232" NOERROR qr 64 0.0002s
[INFO] 10.244.0.7:1 - 3 "A CH version.bind. udp 30 false 512" REFUSED qr 12 0.0002s
[INFO] plugin/reload: Running configuration SHA512 = abc "A B"
"""


def shown(content: bytes) -> list[str]:
    out = []
    for packet in Queries(content):
        message = dns.message.from_wire(packet)
        question = message.question[0]
        flags = f" +edns={message.payload}" if message.edns >= 0 else ""
        flags += " +do" if message.ednsflags & 0x8000 else ""
        out.append(f"{question.name} {dns.rdatatype.to_text(question.rdtype)}{flags}")
    return out


def test_a_query_log() -> None:
    queries = Queries(LOG.encode())
    assert [packet[:2] for packet in queries] == [b"\0\0", b"\0\0"]
    assert shown(LOG.encode()) == ["Web.default.svc.cluster.local. AAAA", "example.com. HTTPS +edns=1232 +do"]
    assert queries.left_out == {
        "a class other than IN": 1,
        "a line that is no query in the default format of the plugin log": 1,
    }


def test_a_list_of_names() -> None:
    text = b"; a comment\na.test A\n\nb.test aaaa\nc.test\n" + b"a" * 64 + b".test A\nd.test NOTYPE\nx y z\n"
    assert shown(text) == ["a.test. A +edns=1232", "b.test. AAAA +edns=1232", "c.test. A +edns=1232"]
    queries = Queries(text)
    assert len(list(queries)) == 3
    assert queries.left_out == {
        "a name that cannot be encoded": 1,
        "the type NOTYPE": 1,
        "a line that is not 'NAME TYPE'": 1,
    }


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ShadowError, match="no such file"):
        read(str(tmp_path / "absent"))
