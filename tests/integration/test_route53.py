"""*route53* with moto, a server with the API of AWS, and CoreDNS beside it.

SVCDNS_TEST_EXTRAS names the Python of an environment that has svcdns, its extras and moto. COREDNS names CoreDNS.
"""

from __future__ import annotations

import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest

from tests.support.extras import PYTHON, ExtrasServer, needs_extras, same_answers_as_coredns
from tests.support.server import free_port, http, until

pytestmark = [pytest.mark.integration, needs_extras]
NAMESPACE = "https://route53.amazonaws.com/doc/2013-04-01/"
AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=AKIATEST/20260101/us-east-1/route53/aws4_request, SignedHeaders=host, Signature=0"
)
"""A header from which moto knows the service. It does not check the signature."""
SECRETS = {"AWS_ACCESS_KEY_ID": "AKIASECRETID", "AWS_SECRET_ACCESS_KEY": "SEKRET-FROM-THE-ENVIRONMENT"}
RECORDS = [
    ("example.org.", "SOA", "ns-1.example.net. hostmaster.example.net. 1 7200 900 1209600 86400"),
    ("www.example.org.", "A", "192.0.2.1", "192.0.2.2"),
    ("www.example.org.", "AAAA", "2001:db8::1"),
    (r"\052.wild.example.org.", "A", "192.0.2.3"),
    ("alias.example.org.", "CNAME", "www.example.org."),
    ("out.example.org.", "CNAME", "www.example.com."),
    ("txt.example.org.", "TXT", '"one" "two words"'),
    ("mx.example.org.", "MX", "10 www.example.org."),
    ("_s._tcp.example.org.", "SRV", "1 2 80 www.example.org."),
    ("sub.example.org.", "NS", "ns.sub.example.org."),
    ("ns.sub.example.org.", "A", "192.0.2.4"),
]
QUERIES = [
    *((name.replace(r"\052", "x"), rtype) for name, rtype, *_ in RECORDS),
    ("example.org.", "NS"), ("example.org.", "A"), ("WWW.Example.ORG.", "A"), ("weighted.example.org.", "A"),
    ("no.example.org.", "A"), ("wild.example.org.", "A"), ("a.b.wild.example.org.", "AAAA"), ("alias.example.org.", "A"),
    ("_tcp.example.org.", "SRV"), ("elb.example.org.", "A"), ("x.sub.example.org.", "A"),
    ("www.example.com.", "A"), ("www.example.org.", "ANY"), ("out.example.org.", "A"),
]  # fmt: skip


class Moto:
    """A running moto with a hosted zone."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        self._folder = folder
        self.process = self._start()
        self.zone = ""

    def _start(self) -> subprocess.Popen[bytes]:
        command = [PYTHON, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(self.port)]
        with (self._folder / "moto.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        until("moto", lambda: http(self.port, "/moto-api/")[0])
        return process

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def create(self) -> None:
        text = self._post("hostedzone", "<CreateHostedZoneRequest xmlns='{}'><Name>example.org.</Name>"
                          "<CallerReference>one</CallerReference></CreateHostedZoneRequest>")  # fmt: skip
        found = re.search(r"<Id>/hostedzone/(\w+)</Id>", text)
        assert found is not None
        self.zone = found[1]
        for name, rtype, *values in RECORDS:
            self.put(name, rtype, values)
        for number in (1, 2):  # the records of a routing policy
            more = f"<SetIdentifier>{number}</SetIdentifier><Weight>{number}</Weight>"
            self.put("weighted.example.org.", "A", [f"192.0.2.{10 + number}"], more)
        target = (
            "<AliasTarget><HostedZoneId>Z2</HostedZoneId><DNSName>x.elb.amazonaws.com.</DNSName>"
            "<EvaluateTargetHealth>false</EvaluateTargetHealth></AliasTarget>"
        )
        self._change("UPSERT", f"<Name>elb.example.org.</Name><Type>A</Type>{target}")

    def put(self, name: str, rtype: str, values: list[str], more: str = "") -> None:
        records = "".join(f"<ResourceRecord><Value>{escape(value)}</Value></ResourceRecord>" for value in values)
        fields = f"<Name>{name}</Name><Type>{rtype}</Type>{more}<TTL>60</TTL>"
        self._change("UPSERT", f"{fields}<ResourceRecords>{records}</ResourceRecords>")

    def _change(self, action: str, record_set: str) -> None:
        change = f"<Change><Action>{action}</Action><ResourceRecordSet>{record_set}</ResourceRecordSet></Change>"
        self._post(
            f"hostedzone/{self.zone}/rrset",
            "<ChangeResourceRecordSetsRequest xmlns='{}'><ChangeBatch><Changes>"
            + change
            + "</Changes></ChangeBatch></ChangeResourceRecordSetsRequest>",
        )

    def _post(self, path: str, body: str) -> str:
        request = urllib.request.Request(
            f"{self.url}/2013-04-01/{path}",
            body.replace("{}", NAMESPACE).encode(),
            {"Content-Type": "text/xml", "Authorization": AUTHORIZATION},
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            text: str = response.read().decode()
            return text


@pytest.fixture
def moto(tmp_path: Path) -> Iterator[Moto]:
    running = Moto(tmp_path, free_port())
    try:
        running.create()
        yield running
    finally:
        running.stop()


def settings(moto: Moto) -> dict[str, str]:
    return {"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL_ROUTE_53": moto.url, **SECRETS}


def test_the_same_answers_as_coredns(moto: Moto, tmp_path: Path) -> None:
    text = (
        f".:{{port}} {{\n bind 127.0.0.1\n route53 example.org.:{moto.zone} {{\n fallthrough no.example.org\n }}\n}}\n"
    )
    same_answers_as_coredns(tmp_path, text, settings(moto), QUERIES)


def test_changes_and_an_outage(moto: Moto, tmp_path: Path) -> None:
    """A change arrives with the next fetch. While the API is away, the last records stay in use."""
    text = (
        f".:{{port}} {{\n bind 127.0.0.1\n route53 example.org.:{moto.zone} {{\n refresh 1\n }}\n"
        " prometheus 127.0.0.1:{metrics}\n debug\n}\n"
    )
    failed = 'svcdns_hosted_zone_failed_fetches_total{.*plugin="route53"'
    with ExtrasServer(tmp_path, text, **settings(moto)) as server:
        server.until_serving()
        assert server.records("www.example.org.") == ["192.0.2.1", "192.0.2.2"]
        moto.put("www.example.org.", "A", ["192.0.2.99"])
        until("the change", lambda: server.records("www.example.org.") == ["192.0.2.99"])
        moto.stop()
        server.until_logged("Failed to update zones [example.org.]: errors updating zones: [failed to list")
        until("the metric", lambda: server.metric(failed) >= 1)
        assert server.records("www.example.org.") == ["192.0.2.99"]
        moto.process = moto._start()  # without zones, as moto keeps nothing
        server.until_logged("NoSuchHostedZone")
        assert server.records("www.example.org.") == ["192.0.2.99"]
        assert server.records("no.example.org.") == ["NXDOMAIN"]
        texts = [server.log, http(server.ports["metrics"], "/metrics")[1]]
        assert not [secret for secret in SECRETS.values() if any(secret in text for text in texts)]


@pytest.mark.parametrize(
    ("zone", "environment", "expected"),
    [
        pytest.param(
            "NOSUCHZONE", {}, "failed to initialize route53 plugin: errors updating zones: [", id="no such zone"
        ),
        pytest.param(
            "Z1",
            {"AWS_ENDPOINT_URL_ROUTE_53": "http://127.0.0.1:1"},
            "failed to create route53 plugin: ",
            id="no connection",
        ),
        pytest.param(
            "Z1",
            {"AWS_REGION": "", "AWS_EC2_METADATA_DISABLED": "true"},
            "failed to create route53 client: failed to get region from IMDS: ",
            id="no region",
        ),
    ],
)
def test_a_start_that_fails(moto: Moto, tmp_path: Path, zone: str, environment: dict[str, str], expected: str) -> None:
    text = f".:{{port}} {{\n bind 127.0.0.1\n route53 example.org.:{zone} {{\n aws_access_key AKIAINFILE SEKRETINFILE\n }}\n}}\n"
    values: dict[str, Any] = {**settings(moto), **environment}
    with ExtrasServer(tmp_path, text, **values) as server:
        assert server.process.wait(60) == 1
        assert f"Corefile:3:2 - Error during parsing: plugin/route53: {expected}" in server.log
        assert not [secret for secret in (*SECRETS.values(), "AKIAINFILE", "SEKRETINFILE") if secret in server.log]
