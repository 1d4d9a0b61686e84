"""Zone transfers of the whole server. dnspython is the secondary."""

from __future__ import annotations

from pathlib import Path

import dns.query
import dns.zone

from tests.support.api_double import ApiDouble, endpoint_slice, namespace, service
from tests.support.server import Server, free_port, until

COREFILE = """
.:{port} {
    bind 127.0.0.1
    errors
    prometheus 127.0.0.1:{metrics}
    ready 127.0.0.1:{ready}
    cache
    loadbalance
    transfer {
        to 127.0.0.1
    }
    kubernetes cluster.local {
        endpoint API
    }
    k8s_external ext.test
}
"""


def refreshed(copy: dns.zone.Zone, server: Server) -> dns.zone.Zone:
    """Updates the copy of the zone: by AXFR if the copy is empty, otherwise by IXFR."""
    dns.query.inbound_xfr("127.0.0.1", copy, port=server.ports["port"], timeout=10, lifetime=10)
    return copy


def addresses(copy: dns.zone.Zone, name: str) -> list[str]:
    """Returns the addresses of a name in the copied zone."""
    found = copy.get_rdataset(name, "A")
    return sorted(rdata.address for rdata in found or ())


def test_a_secondary_follows_the_cluster(tmp_path: Path) -> None:
    """The first transfer is AXFR. IXFR has no records without a change, and the new zone after a change."""
    services = [service(f"web-{number}", f"10.96.{number >> 8}.{number & 255}") for number in range(1, 3000)]
    external = service("shop", "10.97.0.1")
    external["spec"]["externalIPs"] = ["192.0.2.1"]
    with (
        ApiDouble(
            [namespace("default"), service("db"), endpoint_slice("db-1", "db", "10.244.1.1"), external, *services]
        ) as api,
        Server(tmp_path, COREFILE.replace("API", api.url)) as server,
    ):
        server.until_ready()
        copy, outside = dns.zone.Zone("cluster.local."), dns.zone.Zone("ext.test.")
        refreshed(copy, server)
        assert [addresses(copy, f"web-{number}.default.svc") for number in (1, 2999)] == [
            ["10.96.0.1"],
            ["10.96.11.183"],
        ]
        assert addresses(copy, "db.default.svc") == ["10.244.1.1"]
        assert str(copy.get_soa().serial) in server.records("cluster.local.", "SOA")[0].split()
        assert addresses(refreshed(outside, server), "shop.default") == ["192.0.2.1"]

        before = copy.get_soa().serial
        assert refreshed(copy, server).get_soa().serial == before
        until("a second to pass for the serial", lambda: _changed(api, server, before))
        assert addresses(refreshed(copy, server), "db.default.svc") == ["10.244.1.1", "10.244.1.2"]
        assert copy.get_soa().serial > before

        assert server.records("cluster.local.", "AXFR") == ["REFUSED"]
        until(
            "both transfers to be counted",
            lambda: server.metric(r'coredns_dns_requests_total\{\S*proto="tcp"\S*type="AXFR"') == 2,
        )


def _changed(api: ApiDouble, server: Server, before: int) -> bool:
    """Changes the cluster. Returns True if the serial differs from `before` and the new address is served."""
    api.put(endpoint_slice("db-1", "db", "10.244.1.1"))
    api.put(endpoint_slice("db-1", "db", "10.244.1.1", "10.244.1.2"))
    later = str(before) not in server.records("cluster.local.", "SOA")[0].split()
    return later and len(server.records("db.default.svc.cluster.local.")) == 2


def test_a_zone_that_another_server_serves(tmp_path: Path) -> None:
    """*secondary* transfers a zone, and every worker answers from it. A NOTIFY brings the next version."""
    text = "@ 60 IN SOA ns root {} 3600 3600 3600 5\nwww 60 IN A {}\n"
    (tmp_path / "zone").write_text(text.format(1, "10.0.0.1"))
    corefile = (
        "one.test:{primary} {\n bind 127.0.0.1\n file {dir}/zone {\n  reload 50ms\n }\n"
        " transfer {\n  to 127.0.0.1:{port}\n }\n}\n"
        "one.test:{port} {\n bind 127.0.0.1\n multisocket 2\n prometheus 127.0.0.1:{metrics}\n"
        " secondary {\n  transfer from 127.0.0.1:{primary}\n }\n}\n"
    )

    class Both(Server):
        """A server with a port for the primary."""

        def write(self, corefile: str) -> None:
            """Writes the Corefile."""
            self.ports.setdefault("primary", free_port())
            super().write(corefile)

    with Both(tmp_path, corefile) as server:
        server.until_serving()
        until("the transfer", lambda: all(server.records("www.one.test.") == ["10.0.0.1"] for _ in range(8)))
        (tmp_path / "zone").write_text(text.format(2, "10.0.0.2"))
        until("the next version", lambda: all(server.records("www.one.test.") == ["10.0.0.2"] for _ in range(8)))
        until("the NOTIFY", lambda: "Notify from 127.0.0.1 for one.test.: checking transfer" in server.log)
