"""Zones of *secondary* in the state folder, with real processes (docs/operating.md#zones-in-the-state-folder)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.server import Server, free_port, until

pytestmark = pytest.mark.slow

ZONE = "$TTL 60\n@ IN SOA ns root {0} 3600 3600 36000 5\n@ IN NS ns\nns IN A 10.0.0.1\nwww IN A 10.0.0.{0}\n"
PRIMARY = (
    "one.test:{port} {\n bind 127.0.0.1\n file {dir}/zone {\n  reload 100ms\n }\n"
    " transfer {\n  to * 127.0.0.1:OTHER\n }\n}\n"
)
SECONDARY = "one.test:{port} {\n bind 127.0.0.1\n secondary {\n  transfer from 127.0.0.1:OTHER\n }\n}\n"


def test_a_zone_is_served_without_its_primary_server(tmp_path: Path) -> None:
    """The zone arrives by AXFR, and a change by IXFR. After a restart, the zone is served from the disk."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    (one / "zone").write_text(ZONE.format(1))
    state = str(other / "state")
    port = str(free_port())
    with Server(other, SECONDARY.replace("OTHER", port), "-state", state) as secondary:
        notified = str(secondary.ports["port"])
        with Server(one, PRIMARY.replace("{port}", port).replace("OTHER", notified)):
            until("the zone", lambda: secondary.records("www.one.test.") == ["10.0.0.1"])
            (one / "zone").write_text(ZONE.format(2))
            until("the next version", lambda: secondary.records("www.one.test.") == ["10.0.0.2"])
            assert "transferred differences zone=one.test. serial=2" in secondary.log
            (file,) = (other / "state" / "zones").iterdir()
            until("the next version on disk", lambda: b"\x0a\0\0\2" in file.read_bytes())
        secondary.process.terminate()
        assert secondary.process.wait(30) == 0
        secondary.process = secondary.launch()
        until("the zone from the disk", lambda: secondary.records("www.one.test.") == ["10.0.0.2"])
        assert "a saved zone is used zone=one.test. serial=2" in secondary.log
