"""A server in an environment that has the extras of svcdns, which the environment of the tests does not have."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import dns.flags
import dns.message
import dns.rcode
import pytest

from tests.support.server import Server, exchange, free_port, until

PYTHON: Final = os.environ.get("SVCDNS_TEST_EXTRAS", "")
"""The Python of the environment, or empty."""
needs_extras = pytest.mark.skipif(
    not PYTHON, reason="SVCDNS_TEST_EXTRAS does not name a Python with the extras of svcdns and moto"
)


class ExtrasServer(Server):
    """A running `svcdns` with the extras."""

    def command(self) -> list[str]:
        """Returns the command that starts the program."""
        return [PYTHON, "-m", "svcdns"]


def answer(port: int, name: str, rtype: str) -> list[str]:
    """Returns the flags, the rcode and the sorted records of a reply."""
    query = dns.message.make_query(name, rtype)
    reply = dns.message.from_wire(exchange(query.to_wire(), "127.0.0.1", port), one_rr_per_rrset=True)
    sections = (("answer", reply.answer), ("authority", reply.authority), ("additional", reply.additional))
    found = [f"{section} {rrset.to_text().lower()}" for section, rrsets in sections for rrset in rrsets]
    return [dns.rcode.to_text(reply.rcode()), dns.flags.to_text(reply.flags), *sorted(found)]


def same_answers_as_coredns(
    folder: Path, corefile: str, environment: dict[str, str], queries: Iterable[tuple[str, str]]
) -> None:
    """Asserts that svcdns and CoreDNS give the same replies with a Corefile. Skips the test without CoreDNS."""
    coredns = shutil.which(os.environ.get("COREDNS", ""))
    if coredns is None:
        pytest.skip("the variable COREDNS does not name CoreDNS")
    with ExtrasServer(folder, corefile, **environment) as server:
        server.until_serving()
        port = free_port()
        path = folder / "Corefile.coredns"
        path.write_text(corefile.replace("{port}", str(port)))
        with (folder / "coredns.log").open("wb") as log:
            other = subprocess.Popen(
                [coredns, "-conf", str(path)], env={**os.environ, **environment}, stdout=log, stderr=log
            )
        try:
            until("CoreDNS", lambda: other.poll() is not None or _is_serving(port))
            assert other.poll() is None, (folder / "coredns.log").read_text()
            for name, rtype in queries:
                assert answer(server.ports["port"], name, rtype) == answer(port, name, rtype), (name, rtype)
        finally:
            other.kill()
            other.wait()


def _is_serving(port: int) -> bool:
    try:
        return bool(answer(port, "example.org.", "SOA"))
    except OSError:
        return False
