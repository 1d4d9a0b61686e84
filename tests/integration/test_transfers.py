"""*secondary* and *transfer* with real name servers, as primaries and as secondaries. Skipped without the server."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import pytest

from tests.support.name_servers import SERVERS, configure
from tests.support.server import TIMEOUT, Server, free_port, until

pytestmark = pytest.mark.integration

TEXT = "$TTL 60\n@ IN SOA ns root {} 3600 3600 3600 5\n@ IN NS ns\nns IN A 10.0.0.1\nwww IN A 10.0.0.{}\n"
MANY = "".join(f'host{number}.a.name.with.several.labels IN TXT "{"x" * 100}"\n' for number in range(3000))


@pytest.fixture(params=SERVERS)
def command(request: pytest.FixtureRequest) -> Callable[..., list[str]]:
    """Returns the function that configures one of the servers."""
    return configure(request.param)


class Pair(Server):
    """svcdns, and the other server in the folder `other`."""

    def __init__(self, folder: Path, command: Callable[..., list[str]], corefile: str, *, is_primary: bool) -> None:
        """Starts both servers. With `is_primary`, the other one is the primary server."""
        (folder / "other").mkdir()
        self.other_port, self._is_primary, self._configure = free_port(), is_primary, command
        (folder / "other" / "zone").write_text(TEXT.format(1, 1) + MANY)
        super().__init__(folder, corefile.replace("OTHER", str(self.other_port)))
        self.start_other()

    def start_other(self) -> None:
        """Starts the other server."""
        folder = self.folder / "other"
        command = self._configure(folder, self.other_port, self.ports["port"], is_primary=self._is_primary)
        with (folder / "log").open("ab") as log:
            self.other = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def stop_other(self) -> None:
        """Ends the other server."""
        self.other.terminate()
        self.other.wait(TIMEOUT)

    def __exit__(self, *error: object) -> None:
        """Ends both servers."""
        self.stop_other()
        super().__exit__(*error)

    def other_records(self) -> list[str]:
        """Returns what the other server answers for `www.one.test.`."""
        query = dns.message.make_query("www.one.test.", "A")
        try:
            reply = dns.query.udp(query, "127.0.0.1", 1, self.other_port)
        except (OSError, dns.exception.DNSException):
            return []
        return [rdata.to_text() for rrset in reply.answer for rdata in rrset]


def test_a_real_primary_server(tmp_path: Path, command: Callable[..., list[str]]) -> None:
    """The zone arrives, and a NOTIFY brings the next version."""
    corefile = "one.test:{port} {\n bind 127.0.0.1\n secondary {\n  transfer from 127.0.0.1:OTHER\n }\n}\n"
    with Pair(tmp_path, command, corefile, is_primary=True) as pair:
        until("the zone", lambda: pair.records("www.one.test.") == ["10.0.0.1"])
        assert pair.records("host2999.a.name.with.several.labels.one.test.", "TXT") == [f'"{"x" * 100}"']
        pair.stop_other()
        (tmp_path / "other" / "zone").write_text(TEXT.format(2, 2) + MANY)
        pair.start_other()
        until("the next version", lambda: pair.records("www.one.test.") == ["10.0.0.2"])


def test_a_real_secondary_server(tmp_path: Path, command: Callable[..., list[str]]) -> None:
    """The other server transfers the zone, and the next version after a NOTIFY."""
    corefile = (
        "one.test:{port} {\n bind 127.0.0.1\n file {dir}/zone {\n  reload 100ms\n }\n"
        " transfer {\n  to 127.0.0.1:OTHER\n }\n}\n"
    )
    (tmp_path / "zone").write_text(TEXT.format(1, 1) + MANY)
    with Pair(tmp_path, command, corefile, is_primary=False) as pair:
        until("the zone", lambda: pair.other_records() == ["10.0.0.1"], 60)
        (tmp_path / "zone").write_text(TEXT.format(2, 2) + MANY)
        until("the next version", lambda: pair.other_records() == ["10.0.0.2"], 60)
